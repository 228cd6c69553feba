"""Proposals with logits, against a direct computation."""

from __future__ import annotations

import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

CFG = ConfigDict(nms_pre=150, max_per_img=100, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)


def _head(kind: str) -> torch.nn.Module:
    return MODELS.build(
        dict(
            type=kind,
            in_channels=4,
            feat_channels=4,
            anchor_generator=dict(type="AnchorGenerator", scales=[2, 4], ratios=[0.5, 1.0], strides=[16]),
            bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
            test_cfg=CFG,
        )
    )


def _outputs() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [4 * torch.randn(1, 4, 8, 8) - 2], [0.3 * torch.randn(1, 16, 8, 8)]


METAS = [dict(img_shape=(128, 128))]


def test_proposals_equal_a_direct_computation() -> None:
    head = _head("LogitRPNHead")
    (scores,), (deltas,) = _outputs()
    (found,) = head.predict_by_feat([scores], [deltas], batch_img_metas=METAS, cfg=CFG)
    logits = scores[0].permute(1, 2, 0).flatten()
    top = logits.topk(150).indices
    anchors = head.prior_generator.grid_priors([(8, 8)], device="cpu")[0]
    boxes = head.bbox_coder.decode(anchors, deltas[0].permute(1, 2, 0).reshape(-1, 4), max_shape=(128, 128))[top]
    size = boxes[:, 2:] - boxes[:, :2]
    top, boxes = top[(size > 0).all(dim=1)], boxes[(size > 0).all(dim=1)]
    best = torchvision.ops.nms(boxes, logits[top], 0.7)[:100]
    assert torch.allclose(found.bboxes, boxes[best])
    assert torch.allclose(found.scores, logits[top][best], rtol=1e-6)
    assert found.scores.dtype == found.bboxes.dtype == torch.float32
    assert (found.scores < 0).any() and (found.scores > 5).any()


def test_keeps_order_where_the_stock_sigmoid_saturates() -> None:
    """Logits of 18 to 20 are all 1.0 after a float32 sigmoid."""
    scores, deltas = _outputs()
    scores[0].uniform_(18, 20)
    (stock,) = _head("RPNHead").predict_by_feat(scores, deltas, batch_img_metas=METAS, cfg=CFG)
    (found,) = _head("LogitRPNHead").predict_by_feat(scores, deltas, batch_img_metas=METAS, cfg=CFG)
    assert len(stock.scores.unique()) < 4
    assert len(found.scores.unique()) == len(found)
    given = scores[0].flatten()[:, None]
    assert (found.scores - given).abs().min(dim=0).values.max() < 3e-6, "each is one of the logits given"
    assert (found.scores.diff() <= 0).all()


def test_half_precision_outputs_do_not_coarsen_the_anchors() -> None:
    scores, deltas = _outputs()
    half = ([x.bfloat16() for x in scores], [x.bfloat16() for x in deltas])
    widened = tuple([x.float() for x in level] for level in half)
    (found,) = _head("LogitRPNHead").predict_by_feat(*half, batch_img_metas=METAS, cfg=CFG)
    (expected,) = _head("LogitRPNHead").predict_by_feat(*widened, batch_img_metas=METAS, cfg=CFG)
    assert torch.equal(found.bboxes, expected.bboxes) and torch.equal(found.scores, expected.scores)
