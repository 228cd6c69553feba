"""What a checkpoint is, told by its keys and shapes and not by its file name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from torch import Tensor

from regionclip.checkpoints.clip_folder import build_clip
from regionclip.checkpoints.key_maps import CLIP_PARTS, EVA_PARTS, OFFICIAL_PARTS, PRETRAINER_PARTS, RPN_PARTS, KeyMap
from regionclip.errors import InputError


class Kind(NamedTuple):
    """A kind of checkpoint: in words, a published file of it, the parts that it must have, and where they are."""

    words: str
    example: str
    required: tuple[str, ...]
    table: KeyMap = OFFICIAL_PARTS


KINDS = {
    "pretrained": Kind(
        "a pretrained RegionCLIP (student and text encoder)", "regionclip_pretrained-cc_rn50.pth", ("student", "text")
    ),
    "finetuned": Kind("a fine-tuned RegionCLIP detector", "regionclip_finetuned-coco_rn50.pth", ("student", "heads")),
    "rpn": Kind("a region proposal network of Detectron2", "rpn_coco_48.pth", ("rpn",), RPN_PARTS),
    "oai_clip": Kind(
        "a CLIP as RegionCLIP's pretraining starts from it",
        "teacher_RN50_student_RN50_OAI_CLIP.pth",
        ("student", "text"),
    ),
    "clip": Kind("a CLIP ResNet of OpenAI or open_clip", "open_clip's RN50 weights", ("student", "text"), CLIP_PARTS),
    "eva_clip": Kind("an EVA02-CLIP", "EVA02_CLIP_B_psz16_s8B.pt", ("student", "text"), EVA_PARTS),
    "pretraining": Kind(
        "a checkpoint of this package's pretraining",
        "one that MMDetection's tools saved",
        ("student",),
        PRETRAINER_PARTS,
    ),
}
"""The kinds that can be read."""

_FOREIGN: tuple[tuple[str | tuple[str, ...], str], ...] = (
    ("visual.class_embedding", "a CLIP with a vision transformer"),
    ("visual.trunk.", "a CLIP with an image tower of timm"),
    ("vision_model.", "a CLIP of Hugging Face's transformers"),
    ("backbone.bottom_up.attnpool.", "a CLIP ResNet below a feature pyramid, which no published result uses"),
    ("backbone.bottom_up.layer1.", "a proposal network on a CLIP ResNet with a feature pyramid"),
    ("backbone.attnpool.", "a CLIP image tower without text encoder or box predictor"),
    ("roi_head.", "a detector in MMDetection's names"),
    (("rpn_head.", "bbox_head."), "a proposal network in MMDetection's names"),
    ("roi_heads.", "a Detectron2 detector without CLIP or proposal network"),
)
"""Prefixes of what is recognised and cannot be read here."""

ARCHITECTURES = ("RN50", "RN101", "RN50x4", "EVA02-B-16", "EVA02-L-14", "EVA02-L-14-336")


def kind_of(keys: Iterable[str]) -> str | None:
    """Return the kind of a state dict, a key of `KINDS`, or None.

    A file of the pretraining's start is told from a pretrained one by the leftovers of CLIP's export in it: logit
    scales and a second text encoder.
    """
    keys = tuple(keys)

    def has(*prefixes: str) -> bool:
        return any(key.startswith(prefixes) for key in keys)

    if has("visual.attnpool."):
        return "clip"
    if has("visual.blocks.0.attn.q_bias"):
        return "eva_clip"
    if has("student.attention_pool."):
        return "pretraining"
    if has("backbone.attnpool."):
        if has("teacher_lang_encoder.", "logit_scale"):
            return "oai_clip"
        if has("lang_encoder."):
            return "pretrained"
        return "finetuned" if has("roi_heads.box_predictor.") else None
    if has("backbone.bottom_up.attnpool.", "backbone.bottom_up.layer1."):
        return None
    return "rpn" if has("proposal_generator.rpn_head.", "offline_proposal_generator.rpn_head.") else None


def describe_foreign(keys: Iterable[str]) -> str:
    """Say what a state dict is that `kind_of` does not know."""
    keys = tuple(keys)
    for prefix, words in _FOREIGN:
        if any(key.startswith(prefix) for key in keys):
            return words
    return f"a state dict of {len(keys)} tensors with unknown names"


def require_kind(state: Mapping[str, Tensor], wanted: str | None, path: str | Path) -> str:
    """Return the kind of a state dict; ``path`` is named in errors.

    Raises:
        InputError: It is something else than ``wanted``, where that is given; the message says what.
    """
    found = kind_of(state)
    if found is None or wanted not in (None, found):
        words = KINDS[found].words if found else describe_foreign(state)
        need = KINDS[wanted].words if wanted else f"one of: {', '.join(kind.words for kind in KINDS.values())}"
        example = KINDS[wanted or "pretrained"].example
        raise InputError(f"this is {words}; wanted {need}", file=path, mend=f"give a file such as {example}")
    return found


@cache
def clip_config(architecture: str) -> dict[str, Any]:
    """Return open_clip's configuration of an architecture; OpenAI's have QuickGELU in the text tower."""
    return open_clip.get_model_config(architecture if architecture.startswith("EVA") else f"{architecture}-quickgelu")


@cache
def clip_shapes(architecture: str) -> dict[str, Tensor]:
    """Return a CLIP's state dict without its content (tensors on the meta device), by open_clip's names."""
    with torch.device("meta"):
        return build_clip(clip_config(architecture)).state_dict()


def require_architecture(visual: Mapping[str, Tensor], path: str | Path) -> str:
    """Return which of `ARCHITECTURES` an image tower of open_clip is, by its blocks and shapes.

    Raises:
        InputError: It is none of them.
    """
    found, eva = _fingerprint(visual), any(key.startswith("trunk.") for key in visual)
    for architecture in (name for name in ARCHITECTURES if name.startswith("EVA") == eva):
        shapes = clip_shapes(architecture)
        if found == _fingerprint({key.removeprefix("visual."): value for key, value in shapes.items()}):
            return architecture
    problem = f"the CLIP image tower is none of {', '.join(ARCHITECTURES)}"
    raise InputError(problem, file=path, mend="fetch the file again, or give a checkpoint of one of these")


def _fingerprint(visual: Mapping[str, Tensor]) -> tuple[Any, ...]:
    blocks = {match.groups() for key in visual if (match := re.match(r"(layer[1-4]|trunk\.blocks)\.(\d+)\.", key))}
    depths = tuple(sorted(Counter(layer for layer, _ in blocks).items()))
    names = ("conv3.weight", "attnpool.positional_embedding", "attnpool.c_proj.weight")
    names += ("trunk.pos_embed", "trunk.patch_embed.proj.weight", "trunk.head.weight")
    return depths, *(tuple(visual[name].shape) if name in visual else None for name in names)
