"""Prompt templates, names put into them, and the embeddings of names by the prompt ensemble.

The 81 templates are the bare name and OpenAI's 80 for ImageNet, in the official order
(RegionCLIP ``clip_prompt_utils.py``: ``get_prompt_templates``). There is no article logic ("a origami").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor, nn

from regionclip.errors import InputError

_BATCH = 256  # prompts that go through the encoder at a time
_NAMES = 256  # names whose prompts are sorted by length
_PHOTO = "a photo of a {}."

REGIONCLIP_81 = ("{}.", _PHOTO, *(t for t in (make("{}") for make in OPENAI_IMAGENET_TEMPLATES) if t != _PHOTO))

TEMPLATE_SETS: dict[str, tuple[str, ...]] = {"regionclip_81": REGIONCLIP_81, "photo": (_PHOTO,)}


def fill(template: str, name: str) -> str:
    """Put a name into a template; commas are deleted and '+' becomes a space, as in the official code."""
    return template.replace("{}", name.replace(",", "").replace("+", " "))


def same_to_clip(
    names: Sequence[str], templates: Sequence[str], tokenizer: Callable[[list[str]], Any]
) -> dict[str, str]:
    """Return the names that CLIP cannot tell from an earlier one: both give the same tokens, and so one embedding.

    They differ in what is dropped: capital letters, what `fill` deletes, and all that is beyond the context length.

    Returns:
        Name -> the earlier one.
    """
    # The one that leaves a name the most room.
    template = min(templates, key=lambda template: template.index("{}"))
    first: dict[tuple[int, ...], str] = {}
    twins = {}
    for name, tokens in zip(names, tokenizer([fill(template, name) for name in names]).tolist(), strict=True):
        if (other := first.setdefault(tuple(tokens), name)) != name:
            twins[name] = other
    return twins


@torch.no_grad()
def embed_names(
    clip_model: nn.Module,
    tokenizer: Callable[[list[str]], Tensor],
    names: Sequence[str],
    templates: Sequence[str],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Embed names as the plain mean over their prompts, with no normalisation before or after.

    Official ``extract_concept_features.py`` and ``clip_prompt_utils.py``. OpenAI's own recipe normalises each prompt
    first; this one does not.

    Args:
        clip_model: An open_clip model, in evaluation mode, on ``device``.
        tokenizer: Its tokenizer: B texts to int64 (B, L).
        names: K names, cleaned.
        templates: T templates with ``{}``.
        device: Where the model is.

    Returns:
        (K, D) float32 on the CPU.

    Raises:
        InputError: No name or no template is given, or an embedding is not finite.
    """
    if not names or not templates:
        raise InputError("nothing to embed", key="templates" if names else "names", mend="give at least one")
    total: Tensor | None = None
    for start in range(0, len(names), _NAMES):
        part = names[start : start + _NAMES]
        tokens = tokenizer([fill(template, name) for name in part for template in templates])
        owners = torch.arange(start, start + len(part)).repeat_interleave(len(templates))
        # Prompts of one length go together, as a batch is as long as its longest.
        for rows in tokens.argmax(dim=1).argsort(stable=True).split(_BATCH):
            features = clip_model.encode_text(tokens[rows].to(device), normalize=False).double()
            if total is None:
                total = features.new_zeros(len(names), features.shape[1])
            # Sums in float64, so the batches do not show in the mean.
            total.index_add_(0, owners[rows].to(device), features)
    assert total is not None
    means = (total / len(templates)).float().cpu()
    bad = ~means.isfinite().all(dim=1)
    if bad.any():
        name = names[int(bad.nonzero()[0])]
        raise InputError("the text encoder gives a number that is not finite", record=name, mend="mend the weights")
    return means
