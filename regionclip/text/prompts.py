"""Prompt templates and the clean-up of names.

The 81 templates are the bare name and OpenAI's 80 for ImageNet, in the official order
(RegionCLIP ``clip_prompt_utils.py``: ``get_prompt_templates``). There is no article logic ("a origami").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

REGIONCLIP_81 = (
    "{}.",
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)

TEMPLATE_SETS: dict[str, tuple[str, ...]] = {"regionclip_81": REGIONCLIP_81, "photo": ("a photo of a {}.",)}


def fill(template: str, name: str) -> str:
    """Put a name into a template; commas are deleted and '+' becomes a space, as in the official code."""
    return template.replace("{}", name.replace(",", "").replace("+", " "))


def clean_lvis_name(name: str) -> str:
    """Return an LVIS category name as a person writes it: '_' becomes a space, parentheses are deleted.

    Official ``get_cls_names``; "bat_(animal)" becomes "bat animal".
    """
    return name.replace("_", " ").replace("(", "").replace(")", "")


def same_to_clip(
    names: Sequence[str], templates: Sequence[str], tokenizer: Callable[[list[str]], Any]
) -> dict[str, str]:
    """Return the names that CLIP cannot tell from an earlier one: both give the same tokens, and so one embedding.

    They differ in what is dropped: capital letters, what `fill` deletes, and all that is beyond the context length.

    Args:
        names: Names of classes.
        templates: The prompt templates; the one that leaves a name the most room is asked.
        tokenizer: A CLIP's tokenizer.

    Returns:
        Name -> the earlier one.
    """
    template = min(templates, key=lambda template: template.index("{}"))
    first: dict[tuple[int, ...], str] = {}
    twins = {}
    for name, tokens in zip(names, tokenizer([fill(template, name) for name in names]).tolist(), strict=True):
        if (other := first.setdefault(tuple(tokens), name)) != name:
            twins[name] = other
    return twins
