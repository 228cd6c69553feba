"""From class scores to detections: threshold, hard and soft NMS per class, clipping, rescale, boxes without area."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from regionclip.models.region_embedding_head import RegionEmbeddingHead, best_detections

META = dict(img_shape=(100, 200), scale_factor=(2.0, 0.5))
# Boxes 0 and 1 overlap by one half, box 2 stands alone.
BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]])


@pytest.fixture
def head(parts: dict) -> RegionEmbeddingHead:
    return MODELS.build(
        dict(
            type="RegionEmbeddingHead",
            attention_pool=parts["attention_pool"],
            num_classes=2,
            cls_predictor_cfg=dict(type="TextEmbeddingClassifier"),
        )
    )


def _detect(
    head: RegionEmbeddingHead,
    probs: list[list[float]],
    nms: dict,
    boxes: Tensor = BOXES,
    deltas: Tensor | None = None,
    **settings: object,
) -> InstanceData:
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    config = ConfigDict(score_thr=0.001, nms=nms, max_per_img=100) | settings
    (found,) = head.predict_by_feat(
        (rois,), (torch.tensor(probs).log(),), (deltas,), [META], ConfigDict(config), rescale=False
    )
    return found


SOFT = dict(type="soft_nms", iou_threshold=0.5, method="gaussian", sigma=0.5, min_score=0.001)


def test_soft_nms_decays_within_a_class_only(head: RegionEmbeddingHead) -> None:
    """Gaussian, exp(-IoU^2 / 0.5); the decayed score is reported; the other class of the same box is untouched."""
    probs = [[0.6, 0.1, 0.3], [0.5, 0.4, 0.1], [0.2, 0.0005, 0.7995]]
    found = _detect(head, probs, SOFT)
    half = math.exp(-(0.5**2) / 0.5)
    expected = {(0, 0): 0.6, (1, 0): 0.5 * half, (2, 0): 0.2, (1, 1): 0.4, (0, 1): 0.1 * half}
    boxes = [int((box == BOXES).all(1).nonzero()) for box in found.bboxes]
    scores = dict(zip(zip(boxes, found.labels.tolist(), strict=True), found.scores.tolist(), strict=True))
    assert scores == pytest.approx(expected, rel=1e-5)
    assert (found.scores.diff() <= 0).all()


def test_soft_nms_prunes_what_decays_below_a_thousandth(head: RegionEmbeddingHead) -> None:
    """The same box twice decays by exp(-2): 0.0011 falls under the threshold, 0.01 does not."""
    boxes = torch.cat([BOXES[:1], BOXES[:1], BOXES[:1]])
    probs = [[0.6, 0.0001, 0.3999], [0.01, 0.0001, 0.9899], [0.0011, 0.0001, 0.9988]]
    found = _detect(head, probs, SOFT, boxes)
    assert found.scores.tolist() == pytest.approx([0.6, 0.01 * math.exp(-2)], rel=1e-4)


def test_threshold_is_strict_and_one_box_may_have_many_classes(head: RegionEmbeddingHead) -> None:
    probs = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    found = _detect(head, probs, dict(type="nms", iou_threshold=0.5), score_thr=0.25)
    assert sorted(found.labels.tolist()) == [0, 1]
    # An IoU of exactly the threshold does not suppress.
    kept = _detect(head, probs, dict(type="nms", iou_threshold=0.5), score_thr=0.2)
    assert len(kept) == 6


def test_boxes_are_clipped_then_rescaled_and_lines_are_dropped(head: RegionEmbeddingHead) -> None:
    """The last box is moved out of the picture: clipped, it has no width."""
    boxes = torch.tensor([[180.0, 80, 220, 130], [100, 10, 140, 50]])
    deltas = torch.tensor([[0.0, 0, 0, 0], [30.0, 0, 0, 0]])  # stds of 0.1: 30 is three widths
    rois = torch.cat([torch.zeros(2, 1), boxes], 1)
    scores = torch.tensor([[0.5, 0.2, 0.3], [0.6, 0.1, 0.3]]).log()
    config = ConfigDict(score_thr=0.3, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)
    head.bbox_coder.stds = (0.1, 0.1, 0.2, 0.2)
    (found,) = head.predict_by_feat((rois,), (scores,), (deltas,), [META], config, rescale=True)
    assert found.bboxes.tolist() == [[90, 160, 100, 200]]
    assert found.scores.tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("nms", [SOFT, dict(type="nms", iou_threshold=0.5)])
def test_boxes_without_area_are_left_out_and_the_rest_keeps_its_order(nms: dict) -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0], [2, 2, 3, 3]])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    config = ConfigDict(score_thr=0.3, nms=nms, max_per_img=100)
    found = best_detections(boxes, scores, config)
    assert found.bboxes.tolist() == boxes[[0, 3]].tolist() and found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.labels.tolist() == [0, 0]
    assert len(best_detections(boxes[:0], scores[:0], config)) == 0
