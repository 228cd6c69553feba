"""MMDetection data sets and pipelines for boxes, stored proposals, and pictures without boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import Dataset

from regionclip.data.datasets import transforms  # noqa: F401  (registered)
from regionclip.data.datasets.named_boxes_dataset import NamedBoxesDataset
from regionclip.data.layout import DetectionSet
from regionclip.data.pictures import ImageSpan, decode_image
from regionclip.params.stages import Detection

META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip")


def train_pipeline(
    sizes: Detection, proposals: Path | None, masks: bool = False, large_scale_jitter: int | None = None
) -> list[dict[str, Any]]:
    """Transforms of a training: decode, boxes, masks if wanted, stored proposals if any, random scale and flip.

    Pictures are read and resized by Pillow, as in the official code; OpenCV gives other pixels. Masks become bitmaps,
    so that polygons and run lengths are taken alike (the official code takes polygons only).

    Args:
        sizes: Picture sizes; one of ``train_short_sides`` is chosen for each picture.
        proposals: Region store; None for a training without proposals.
        masks: Load masks too.
        large_scale_jitter: Side in pixels of a square that pictures are scaled to 0.1 to 2 times of and cropped to
            (arXiv:2012.07177), in the place of ``sizes``.
    """
    pack = {"type": "PackDetInputs", "meta_keys": META_KEYS}
    if large_scale_jitter:
        square = (large_scale_jitter, large_scale_jitter)
        resize = {"type": "RandomResize", "scale": square, "ratio_range": (0.1, 2.0), "resize_type": "ResizeWithin"}
        return [
            *_load(masks),
            {**resize, "backend": "pillow"},
            {"type": "RandomFlip", "prob": 0.5},
            {"type": "RandomCrop", "crop_size": square, "recompute_bbox": True, "allow_negative_crop": True},
            {"type": "FilterAnnotations", "min_gt_bbox_wh": (0.01, 0.01)},
            pack,
        ]
    scales = [(sizes.max_size, short) for short in sizes.train_short_sides]
    resize = {"type": "RandomChoiceResize", "scales": scales, "resize_type": "ResizeShortSide"}
    resize |= {"max_size": sizes.max_size, "backend": "pillow"}
    geometric = [resize, {"type": "RandomFlip", "prob": 0.5}]
    return [*_load(masks), *_with_proposals(geometric, proposals, None), pack]


def test_pipeline(sizes: Detection, proposals: Path | Literal["truth"] | None) -> list[dict[str, Any]]:
    """Transforms of a test: one scale, no flip; proposals from a store, the true boxes, or none."""
    with_proposals = _with_proposals([test_resize(sizes)], proposals, sizes.test_proposals)
    return [*_load(masks=False), *with_proposals, {"type": "PackDetInputs", "meta_keys": META_KEYS}]


def test_resize(sizes: Detection) -> dict[str, Any]:
    """Transform to the test's short side, unless the long one would pass the limit; rounded as Detectron2 does."""
    size = {"scale": sizes.test_short_side, "max_size": sizes.max_size}
    return {"type": "ResizeShortSide", **size, "backend": "pillow"}


def boxes_config(
    scenes: DetectionSet,
    names: Sequence[str],
    pipeline: list[dict[str, Any]],
    *,
    training: bool,
    repeat_threshold: float | None = None,
    held_out: int = 0,
    pseudo_boxes: Path | None = None,
) -> dict[str, Any]:
    """Return the configuration of the data set of a COCO- or LVIS-format file.

    Args:
        scenes: Pictures and annotations.
        names: Classes, as `ClassList` writes them; boxes of others are left out.
        pipeline: Transforms.
        training: Drop pictures without a box.
        repeat_threshold: Repeat pictures of classes that fewer than this share of the pictures have, in proportion to
            1 / sqrt(share): LVIS's repeat factor sampling, where the paper takes 0.001. MMDetection's rounds each
            picture's factor up; the official sampler rounds at random, anew in each epoch.
        held_out: Leave out a development split of at most so many pictures; see `NamedBoxesDataset`.
        pseudo_boxes: A file of further boxes on these pictures.
    """
    boxes = NamedBoxesDataset.config(scenes, names, training=training)
    config = {"type": "NamedBoxesDataset", **boxes, "pipeline": pipeline, "held_out": held_out}
    if pseudo_boxes is not None:
        config["pseudo_boxes"] = str(pseudo_boxes.resolve())
    if repeat_threshold is None:
        return config
    return {"type": "ClassBalancedDataset", "oversample_thr": repeat_threshold, "dataset": config}


def boxes_dataset(
    scenes: DetectionSet, names: Sequence[str], pipeline: list[dict[str, Any]], *, training: bool
) -> Dataset:
    """Build the data set of a COCO- or LVIS-format file; see `boxes_config`."""
    return build_dataset(boxes_config(scenes, names, pipeline, training=training))


def stream_config(boxes: dict[str, Any], sizes: Detection, batch_size: int, seed: int) -> dict[str, Any]:
    """Return the configuration of a training's endless stream over a data set; see `StreamDataset`."""
    group = batch_size if sizes.group_by_aspect else None
    return {"type": "StreamDataset", "dataset": boxes, "seed": seed, "group": group}


def build_dataset(config: dict[str, Any]) -> Dataset:
    """Build a data set outside a Runner, where MMEngine finds MMDetection's transforms only in its scope."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(config)


class PicturesDataset(Dataset):
    """Pictures without boxes: pairs of image id and where the image is, a file or a place in a shard, by number."""

    def __init__(self, pictures: Sequence[tuple[int | str, Path | ImageSpan]], sizes: Detection) -> None:
        self.pictures = pictures
        keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
        steps = [test_resize(sizes), {"type": "PackDetInputs", "meta_keys": keys}]
        # Outside a Runner, MMEngine finds MMDetection's transforms only in this scope.
        with DefaultScope.overwrite_default_scope("mmdet"):
            self.pipeline = Compose(steps)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``inputs`` uint8 (3, H, W) BGR and ``data_samples``."""
        image_id, image = self.pictures[index]
        name = f"{image.file}/{image_id}" if isinstance(image, ImageSpan) else str(image)
        pixels = np.ascontiguousarray(np.asarray(decode_image(image, name))[..., ::-1])
        shape = pixels.shape[:2]
        record = {"img": pixels, "img_id": image_id, "img_path": name, "img_shape": shape, "ori_shape": shape}
        return self.pipeline(record)


def _load(masks: bool) -> list[dict[str, Any]]:
    return [{"type": "LoadPicture"}, {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks}]


def _with_proposals(
    geometric: list[dict[str, Any]], proposals: Path | Literal["truth"] | None, most: int | None
) -> list[dict[str, Any]]:
    if proposals is None:
        return geometric
    load = {"type": "LoadStoredProposals", "store": str(proposals), "num_max_proposals": most}
    if proposals == "truth":
        load = {"type": "LoadGroundTruthAsProposals"}
    return [load, {"type": "ProposalBroadcaster", "transforms": geometric}]
