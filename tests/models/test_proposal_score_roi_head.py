"""Scores are multiplied with objectness before threshold and NMS, against a direct computation."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from regionclip.models.proposal_score_roi_head import ProposalScoreRoIHead, voted
from regionclip.models.region_embedding_head import best_detections

CFG = ConfigDict(score_thr=0.3, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)


def _head(parts: dict, mode: str) -> ProposalScoreRoIHead:
    head = dict(
        type="RegionEmbeddingHead",
        attention_pool=parts["attention_pool"],
        num_classes=2,
        with_reg=False,
        cls_predictor_cfg=dict(type="TextEmbeddingClassifier", temperature=1.0),
    )
    model = MODELS.build(
        ConfigDict(
            type="ProposalScoreRoIHead",
            score_mode=mode,
            bbox_roi_extractor=parts["roi_extractor"],
            shared_head=parts["res5"],
            bbox_head=head,
            test_cfg=CFG,
        )
    )
    model.bbox_head.fc_cls.set_vocabulary(torch.randn(2, 32))
    return model.eval()


# Class probabilities of three boxes (the last column is background) and their objectness logits.
PROBS = torch.tensor([[0.50, 0.30, 0.2], [0.45, 0.05, 0.5], [0.9, 0.05, 0.05]])
BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40]])
LOGITS = torch.tensor([0.5, 2.0, -1.0])


def test_official_scores_use_the_raw_logit_and_lose_boxes_below_zero(parts: dict) -> None:
    """Box 1 beats box 0 for class 0 only because of its objectness: multiplication comes before NMS."""
    found = best_detections(BOXES, _head(parts, "official").fuse(PROBS, LOGITS), CFG)
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([math.sqrt(0.45 * 2), math.sqrt(0.3 * 0.5)])
    assert torch.equal(found.bboxes, BOXES[[1, 0]])


def test_sigmoid_scores_keep_every_box(parts: dict) -> None:
    found = best_detections(BOXES, _head(parts, "sigmoid").fuse(PROBS, LOGITS), CFG)
    sigmoid = [1 / (1 + math.exp(-x)) for x in LOGITS.tolist()]
    expected = sorted(
        [math.sqrt(0.45 * sigmoid[1]), math.sqrt(0.9 * sigmoid[2]), math.sqrt(0.3 * sigmoid[0])], reverse=True
    )
    assert found.scores.tolist() == pytest.approx(expected)
    assert (found.scores <= 1).all()


def test_the_whole_head_equals_a_direct_computation(parts: dict) -> None:
    head = _head(parts, "official")
    start = torch.rand(15, 2) * 30
    proposals = [
        InstanceData(bboxes=torch.cat([start, start + 25], 1), scores=torch.linspace(-1, 3, 15)),
        InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0)),
    ]
    metas = [dict(img_shape=(64, 64), scale_factor=(2.0, 2.0))] * 2
    features = (torch.rand(2, 256, 4, 4),)
    with torch.no_grad():
        found, nothing = head.predict_bbox(features, metas, proposals, CFG, rescale=True)
        rois = torch.cat([torch.zeros(15, 1), proposals[0].bboxes], 1)
        probs = head.bbox_head(head.shared_head(head.bbox_roi_extractor(features, rois)))[0].softmax(1)[:, :2]
    keep = proposals[0].scores > 0
    scores = (probs * proposals[0].scores[:, None]).sqrt()[keep]
    row, label = (scores > CFG.score_thr).nonzero(as_tuple=True)
    boxes = proposals[0].bboxes[keep][row] / 2
    best = torchvision.ops.batched_nms(boxes, scores[row, label], label, 0.5)
    assert len(nothing) == 0 and 0 < len(best) < len(row)
    assert torch.equal(found.labels, label[best])
    assert torch.allclose(found.scores, scores[row, label][best])
    assert torch.allclose(found.bboxes, boxes[best])


def test_refuses_an_unknown_mode(parts: dict) -> None:
    with pytest.raises(ValueError, match="product"):
        _head(parts, "product")


def test_boxes_without_area_are_left_out(parts: dict) -> None:
    """A box clipped to a line keeps its place among the best and is then dropped, as in Detectron2."""
    boxes = torch.cat([BOXES, torch.tensor([[64.0, 10, 64, 30]])])
    probs = torch.cat([PROBS, torch.tensor([[0.95, 0.04, 0.01]])])
    cfg = ConfigDict(score_thr=0.3, nms=dict(type="nms", iou_threshold=0.5), max_per_img=2)
    found = best_detections(boxes, _head(parts, "sigmoid").fuse(probs, torch.full((4,), 3.0)), cfg)
    assert found.bboxes.tolist() == [BOXES[2].tolist()]


def test_boxes_that_overlap_move_each_other() -> None:
    """By hand: IoU of (0, 0, 10, 10) and (0, 0, 10, 9) is 0.9, objectness 0.8 and 0.4; the bottoms become means.

    (10 x 0.8 + 9 x 0.9 x 0.4) / (0.8 + 0.9 x 0.4) = 9.6897, (10 x 0.9 x 0.8 + 9 x 0.4) / (0.9 x 0.8 + 0.4) = 9.6429.
    A box that overlaps none and one without area stay.
    """
    boxes = torch.cat([BOXES, torch.tensor([[5.0, 2, 5, 8]])])
    logits = torch.tensor([0.8, 0.4, 0.1, 0.9]).logit()
    moved = voted(boxes, logits, 0.5)
    wanted = boxes.clone()
    wanted[0, 3], wanted[1, 3] = 9.6897, 9.6429
    torch.testing.assert_close(moved, wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(voted(boxes, logits, 0.95), boxes)
    # Pictures of a batch are apart.
    torch.testing.assert_close(voted(boxes.repeat(2, 1, 1), logits.repeat(2, 1), 0.5)[1], moved)
