"""Objectness as quality: its loss by hand, and what teaches it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.models.assembly import build_rpn
from tests.conftest import profile_params


def test_the_target_is_the_overlap_of_the_box_that_is_proposed() -> None:
    """A box is half of its object, an object three quarters of its box; the third has none, the last is not taken."""
    head = MODELS.build(
        dict(
            type="QualityRPNHead",
            in_channels=1,
            anchor_generator=dict(type="AnchorGenerator", scales=[1], ratios=[1.0], strides=[16]),
            bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True),
        )
    )
    anchors = torch.tensor([[0.0, 0, 16, 16], [16, 0, 32, 16], [32, 0, 48, 16], [48, 0, 64, 16]])
    objects = torch.tensor([[0.0, 0, 16, 32], [16, 0, 32, 12], [32, 0, 48, 16], [48, 0, 64, 16]])
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(1, 1, 1, 4).requires_grad_()
    weights = torch.tensor([[1.0, 1, 1, 0]])
    loss, _ = head.loss_by_feat_single(
        scores,
        torch.zeros(1, 4, 1, 4),
        anchors[None],
        torch.tensor([[0, 0, 1, 1]]),
        weights,
        head.bbox_coder.encode(anchors, objects)[None],
        torch.zeros(1, 4, 4),
        avg_factor=3.0,
    )
    softplus = [math.log1p(math.exp(logit)) for logit in (0.0, 1.0, 2.0)]
    by_hand = (softplus[0] - 0.5 * 0 + softplus[1] - 0.75 * 1 + softplus[2] - 0 * 2) / 3
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    loss.backward()
    expected = (torch.tensor([0.0, 1.0, 2.0]).sigmoid() - torch.tensor([0.5, 0.75, 0.0])) / 3
    assert torch.allclose(scores.grad.flatten(), torch.tensor([*expected, 0.0]), atol=1e-6)


@pytest.mark.parametrize("objectness", ["classification", "quality"])
def test_objects_and_background_teach_both_kinds(clip_path: Path, objectness: str) -> None:
    section = profile_params("tiny").rpn.model_copy(update={"objectness": objectness})
    model = build_rpn(ClipFolder.open(clip_path), section, nms_iou=0.7, proposals=9)
    boxes = torch.tensor([[8.0, 8, 40, 40]])
    meta = {"img_shape": (128, 128), "pad_shape": (128, 128)}
    sample = DetDataSample(metainfo=meta, gt_instances=InstanceData(bboxes=boxes, labels=torch.zeros(1).long()))
    scores, deltas = model.bbox_head(model.extract_feat(torch.randn(1, 3, 128, 128)))
    scores[0].retain_grad()
    losses = model.bbox_head.loss_by_feat(scores, deltas, [sample.gt_instances], [sample.metainfo])
    sum(losses["loss_rpn_cls"]).backward()
    touched = scores[0].grad[0].abs().sum(dim=0) > 0
    assert touched[1:3, 1:3].any(), "anchors on the object"
    assert touched[4:, 4:].any(), "anchors apart from it"
