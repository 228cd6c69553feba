"""The tensors that an official checkpoint must have: names in the file, and shapes, without content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from regionclip.checkpoints.key_maps import Parts, join
from regionclip.checkpoints.kinds import clip_shapes
from regionclip.checkpoints.loading import Allowance
from regionclip.checkpoints.rpn_weights import rpn_architecture, rpn_shapes

REQUIRED = {
    "pretrained": ("student", "text"),
    "finetuned": ("student", "heads"),
    "rpn": ("rpn",),
    "oai_clip": ("student", "text"),
    "clip": ("student", "text"),
    "pretraining": ("student",),
}
"""Parts that each kind must have; what else it has must be whole as well."""


BATCH_COUNTS = Allowance(r".*\.num_batches_tracked$", "frozen batch norm counts nothing")
"""What Detectron2's frozen batch norm lacks and others have."""

_UNUSED = (
    Allowance(r"(input_resolution|context_length|vocab_size)$", "a size that OpenAI's archives keep with the weights"),
    Allowance(r"teacher\.logit_scale$", "the teacher's scale; matching has a temperature of its own"),
    Allowance(r"(offline_)?pixel_(mean|std)$", "normalisation, which the configs hold"),
    Allowance(r".*anchor_generator\.cell_anchors\.\d+$", "anchors, which the configs define"),
)
_UNUSED_OF_RPN = (
    *_UNUSED,
    Allowance(r"roi_heads\.", "the detection head that the proposal network was trained with"),
)


def unused_keys(state: Iterable[str], kind: str) -> dict[str, str]:
    """Return the keys of a state dict of this kind that nothing here needs, each with the reason."""
    allow = _UNUSED_OF_RPN if kind == "rpn" else _UNUSED
    return {key: allowance.reason for key in state for allowance in allow if allowance.covers(key)}


def wanted_shapes(
    kind: str, parts: Mapping[str, Mapping[str, Tensor]], table: Parts, architectures: Mapping[str, str]
) -> dict[str, Tensor]:
    """Return the tensors (on the meta device) that a file with these parts has.

    Args:
        kind: A key of `REQUIRED`.
        parts: Tensors by part and name, as `key_maps.split` gives them.
        table: The table that split them.
        architectures: Of the student and, where there is one, the teacher.
    """
    wanted: dict[str, Tensor] = {}
    for part in {*REQUIRED[kind], *parts}:
        shapes = _shapes(part, parts.get(part, {}), architectures)
        wanted |= {join(part, name, table): value for name, value in shapes.items()}
    return wanted


def _shapes(part: str, found: Mapping[str, Tensor], architectures: Mapping[str, str]) -> dict[str, Tensor]:
    if part == "rpn":
        return rpn_shapes(rpn_architecture(found))
    clip = clip_shapes(architectures["teacher" if part.startswith("teacher") else "student"])
    if part in ("student", "teacher"):
        return {name.removeprefix("visual."): value for name, value in clip.items() if name.startswith("visual.")}
    if part in ("text", "teacher_text"):
        return {name: value for name, value in clip.items() if not name.startswith(("visual.", "logit_scale"))}
    if part == "scale":
        return {"logit_scale": clip["logit_scale"]}
    embed_dim, channels = clip["visual.attnpool.c_proj.weight"].shape
    return _head_shapes(found, embed_dim, channels)


def _head_shapes(found: Mapping[str, Tensor], embed_dim: int, channels: int) -> dict[str, Tensor]:
    """Box predictor with any number of classes, test classes and mask head where there are any of their tensors."""
    box, mask = "roi_heads.box_predictor", "roi_heads.mask_head"
    shapes: dict[str, tuple[int, ...]] = {
        f"{box}.cls_bg_score.weight": (1, embed_dim),
        f"{box}.bbox_pred.weight": (4, embed_dim),
        f"{box}.bbox_pred.bias": (4,),
    }
    for name in ("cls_score", "test_cls_score"):
        key = f"{box}.{name}.weight"
        if key in found or name == "cls_score":
            shapes[key] = (len(found[key]) if key in found and found[key].ndim else 1, embed_dim)
    if any(key.startswith(mask) for key in found):
        shapes |= {
            f"{mask}.deconv.weight": (channels, 256, 2, 2),
            f"{mask}.deconv.bias": (256,),
            f"{mask}.predictor.weight": (1, 256, 1, 1),
            f"{mask}.predictor.bias": (1,),
        }
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
