"""The detector of the golden runs, filled from an official checkpoint, and its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from benchmarks.parity.golden_folder import PICTURES, Arrays, GoldenFolder
from regionclip.checkpoints.official import OfficialCheckpoint
from regionclip.models.assembly import read_config

# Height and width that each picture is said to have had before it was resized.
ORIGINAL_SIZES = {"A": (600, 800), "B": (384, 384)}
# Per class from 1001 pairs of box and class on, as torchvision decides on a CPU: moved apart instead, boxes of 1203
# classes would have coordinates of half a million, which float32 rounds to 0.03 pixels.
HARD_NMS = dict(type="nms", iou_threshold=0.5, split_thr=1001)
SOFT_NMS = dict(type="soft_nms", iou_threshold=0.5, method="gaussian", sigma=0.5, min_score=0.001)


def build(config: dict[str, Any]) -> BaseModel:
    """Build an MMDetection model from its config."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(config)


def build_detector(checkpoint: OfficialCheckpoint, num_classes: int) -> BaseModel:
    """Build the Fast R-CNN for ``num_classes`` training classes and load the official detector strictly."""
    model = read_config("ov_fast_rcnn_clip_rn50_c4.py").model
    model.roi_head.type = "ProposalScoreRoIHead"
    model.roi_head.bbox_head.num_classes = num_classes
    detector = build(model)
    detector.load_state_dict(checkpoint.detector())
    return detector


def samples(golden: GoldenFolder) -> list[DetDataSample]:
    """Return the data samples of pictures A and B: sizes, given proposals and true boxes."""
    found = []
    for name in PICTURES:
        height, width = golden.inputs[f"img{name}"].shape[1:]
        original = ORIGINAL_SIZES[name]
        meta = dict(
            img_shape=(height, width), ori_shape=original, scale_factor=(width / original[1], height / original[0])
        )
        boxes, labels, proposals, logits = (
            torch.from_numpy(golden.inputs[f"{key}{name}"]) for key in ("gt", "gtcls", "prop", "propobj")
        )
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.proposals = InstanceData(bboxes=proposals, scores=logits)
        found.append(sample)
    return found


def preprocess(model: BaseModel, golden: GoldenFolder, *, training: bool = False) -> tuple[Tensor, list[DetDataSample]]:
    """Normalise and pad pictures A and B as ``model`` does.

    Returns:
        The batch (2, 3, H, W) and its data samples.
    """
    # Pictures are stored RGB; MMDetection reads BGR.
    pictures = [torch.from_numpy(golden.inputs[f"img{name}"][::-1].copy()) for name in PICTURES]
    data = model.data_preprocessor(dict(inputs=pictures, data_samples=samples(golden)), training)
    return data["inputs"], data["data_samples"]


def region_modules(model: BaseModel) -> dict[str, nn.Module]:
    """Name the steps from feature map to scores, for `recorded`."""
    head = model.roi_head
    return {
        "pool": head.bbox_roi_extractor,
        "res5": head.shared_head,
        "feats": head.bbox_head.attention_pool,
        "logits": head.bbox_head.fc_cls,
        "deltas": head.bbox_head.fc_reg,
    }


@contextmanager
def embedded_once(head: StandardRoIHead, features: tuple[Tensor, ...], proposals: list[InstanceData]) -> Iterator[None]:
    """Run layer4, pool and heads on ``proposals`` now, and let every prediction inside the block use the result."""
    once = head._bbox_forward(features, bbox2roi([given.bboxes for given in proposals]))
    head._bbox_forward = lambda *_: once
    try:
        yield
    finally:
        del head._bbox_forward


def test_config(threshold: float, top: int, nms: dict[str, Any]) -> ConfigDict:
    """Return MMDetection's settings of detection."""
    return ConfigDict(score_thr=threshold, nms=nms, max_per_img=top)


def detections(prefix: str, found: list[InstanceData], raw: list[InstanceData] | None = None) -> Arrays:
    """Name boxes, scores and classes of each picture, and its boxes in network-input pixels where given."""
    arrays: dict[str, np.ndarray] = {}
    for i, name in enumerate(PICTURES):
        if raw is not None:
            arrays[f"{prefix}raw_boxes{name}"] = raw[i].bboxes.numpy()
        arrays[f"{prefix}boxes{name}"] = found[i].bboxes.numpy()
        arrays[f"{prefix}scores{name}"] = found[i].scores.numpy()
        arrays[f"{prefix}classes{name}"] = found[i].labels.numpy()
    return arrays


def official_parameters(model: BaseModel, names: list[str]) -> dict[str, nn.Parameter]:
    """Return the detector's parameters under the official ``names``, in their order."""
    head = model.roi_head
    homes = {
        "backbone.attnpool.": head.bbox_head.attention_pool,
        "backbone.layer4.": head.shared_head.layer4,
        "backbone.": model.backbone,
        "roi_heads.box_predictor.bbox_pred.": head.bbox_head.fc_reg,
    }
    found = {}
    for name in names:
        prefix = next(prefix for prefix in homes if name.startswith(prefix))
        found[name] = homes[prefix].get_parameter(name.removeprefix(prefix))
    return found
