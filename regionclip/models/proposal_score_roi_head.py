"""An RoI head that also counts how sure the proposal network was that there is an object: for scores, and boxes."""

from __future__ import annotations

from typing import Any, Literal

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import ConfigType, InstanceList
from torch import Tensor

from regionclip.models.region_embedding_head import best_detections


@MODELS.register_module()
class ProposalScoreRoIHead(StandardRoIHead):
    """``StandardRoIHead`` whose scores are sqrt(class probability x objectness), multiplied before thresholds and NMS.

    Official ``MULTIPLY_RPN_SCORE`` (``fast_rcnn_inference_single_image``). The proposals' ``scores`` must be raw
    objectness **logits**.

    Args:
        score_mode: 'official' multiplies the raw logit, as the published numbers do: scores may exceed 1, and a box
            with a negative logit gets 0. 'sigmoid' multiplies the probability of an object instead, 'none' nothing.
        box_voting: IoU from which refined boxes move each other, see `voted`; None: they stay.
        **kwargs: Arguments of ``StandardRoIHead``.
    """

    def __init__(
        self,
        *args: Any,
        score_mode: Literal["none", "official", "sigmoid"] = "official",
        box_voting: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if score_mode not in ("none", "official", "sigmoid"):
            raise ValueError(f"score_mode is 'none', 'official' or 'sigmoid', not {score_mode!r}")
        self.score_mode, self.box_voting = score_mode, box_voting

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigType,
        rescale: bool = False,
    ) -> InstanceList:
        """Detect objects among the proposals; arguments and results as in ``StandardRoIHead``.

        ``BBoxHead`` gives all boxes and class scores, in the proposals' order, when it gets no ``rcnn_test_cfg``; so
        does this.
        """
        raw = super().predict_bbox(x, batch_img_metas, rpn_results_list, None, rescale)
        for found, proposals in zip(raw, rpn_results_list, strict=True):
            found.scores = self.fuse(found.scores, proposals.scores)
            if self.box_voting is not None:
                found.bboxes = voted(found.bboxes, proposals.scores, self.box_voting)
        if rcnn_test_cfg is None:
            return raw
        return [best_detections(found.bboxes, found.scores, rcnn_test_cfg) for found in raw]

    def fuse(self, probs: Tensor, logits: Tensor) -> Tensor:
        """Multiply class probabilities (N, K + 1) with the objectness of N proposals, given as logits (N,)."""
        if self.score_mode == "none":
            return probs
        objectness = logits.clamp(min=0) if self.score_mode == "official" else logits.sigmoid()
        return (probs * objectness[:, None]).sqrt()


def voted(boxes: Tensor, logits: Tensor, iou: float) -> Tensor:
    """Let refined boxes (..., N, 4), of whatever class, move each other; ``logits`` (..., N) are their objectness.

    Each becomes the mean of those that overlap it by more than ``iou``, weighed by overlap and by the probability of an
    object: the box voting of Gidaris and Komodakis (2015), of all classes at once, before NMS.
    """
    overlaps = bbox_overlaps(boxes, boxes)
    weights = torch.where(overlaps > iou, overlaps, 0.0) * logits.sigmoid()[..., None, :]
    # A box without area overlaps not even itself.
    weights = weights + 1e-6 * torch.eye(boxes.shape[-2], device=boxes.device)
    # No matrix product: mixed precision would round the places.
    return (weights[..., None] * boxes[..., None, :, :]).sum(dim=-2) / weights.sum(dim=-1, keepdim=True)
