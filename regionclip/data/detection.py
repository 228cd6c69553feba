"""MMDetection data sets and pipelines for boxes and stored proposals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import Dataset

from regionclip.data import named_boxes_dataset, transforms  # noqa: F401  (registered)
from regionclip.data.layout import DetectionSet
from regionclip.params import Detection

META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip")


def train_pipeline(sizes: Detection, proposals: Path | None) -> list[dict[str, Any]]:
    """Transforms of a training: decode, boxes, stored proposals if any, random scale and flip.

    Pictures are read and resized by Pillow, as in the official code; OpenCV gives other pixels.
    """
    scales = [(sizes.max_size, short) for short in sizes.train_short_sides]
    resize = {"type": "RandomChoiceResize", "scales": scales, "keep_ratio": True, "backend": "pillow"}
    geometric = [resize, {"type": "RandomFlip", "prob": 0.5}]
    return [*_load(), *_with_proposals(geometric, proposals, None), {"type": "PackDetInputs", "meta_keys": META_KEYS}]


def test_pipeline(sizes: Detection, proposals: Path | Literal["truth"] | None) -> list[dict[str, Any]]:
    """Transforms of a test: one scale, no flip; proposals from a store, the true boxes, or none."""
    scale = (sizes.max_size, sizes.test_short_side)
    resize = {"type": "Resize", "scale": scale, "keep_ratio": True, "backend": "pillow"}
    with_proposals = _with_proposals([resize], proposals, sizes.test_proposals)
    return [*_load(), *with_proposals, {"type": "PackDetInputs", "meta_keys": META_KEYS}]


def boxes_dataset(
    scenes: DetectionSet, names: Sequence[str], pipeline: list[dict[str, Any]], *, training: bool
) -> Dataset:
    """Build the data set of a COCO- or LVIS-format file.

    Args:
        scenes: Pictures and annotations.
        names: Classes, as `ClassList` writes them; boxes of others are left out.
        pipeline: Transforms.
        training: Drop pictures without a box.
    """
    config = {
        "type": "NamedBoxesDataset",
        "ann_file": str(scenes.annotations.resolve()),
        "data_prefix": {"img": str(scenes.images.resolve())},
        "metainfo": {"classes": tuple(names)},
        "filter_cfg": {"filter_empty_gt": True, "min_size": 0} if training else None,
        "test_mode": not training,
        "pipeline": pipeline,
    }
    # Outside a Runner, MMEngine finds MMDetection's transforms only in this scope.
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(config)


def _load() -> list[dict[str, Any]]:
    return [
        {"type": "LoadImageFromFile", "imdecode_backend": "pillow"},
        {"type": "LoadAnnotations", "with_bbox": True},
    ]


def _with_proposals(
    geometric: list[dict[str, Any]], proposals: Path | Literal["truth"] | None, most: int | None
) -> list[dict[str, Any]]:
    if proposals is None:
        return geometric
    load = {"type": "LoadStoredProposals", "store": str(proposals), "num_max_proposals": most}
    if proposals == "truth":
        load = {"type": "LoadGroundTruthAsProposals"}
    return [load, {"type": "ProposalBroadcaster", "transforms": geometric}]
