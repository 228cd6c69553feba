"""A region proposal head whose objectness is how well a box lies on its object."""

from __future__ import annotations

from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from regionclip.models.logit_rpn_head import LogitRPNHead


@MODELS.register_module()
class QualityRPNHead(LogitRPNHead):
    """``LogitRPNHead`` that learns the IoU of an anchor's box with its object instead of object or not.

    Background has quality 0. So the best box of an object comes first among its neighbours, as in "VarifocalNet: An
    IoU-aware Dense Object Detector" (Zhang et al., 2021).
    """

    def loss_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        anchors: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: float,
    ) -> tuple[Tensor, Tensor]:
        """Return objectness and box loss of a level; arguments as in ``AnchorHead``."""
        given = (anchors, labels, label_weights, bbox_targets, bbox_weights)
        _, loss_bbox = super().loss_by_feat_single(cls_score, bbox_pred, *given, avg_factor)
        deltas = bbox_pred.detach().permute(0, 2, 3, 1).reshape(-1, 4)
        anchors, targets = anchors.reshape(-1, 4), bbox_targets.reshape(-1, 4)
        boxes, true = (self.bbox_coder.decode(anchors, values) for values in (deltas, targets))
        quality = bbox_overlaps(boxes, true, is_aligned=True) * (labels.reshape(-1) == 0)
        scores = cls_score.permute(0, 2, 3, 1).reshape(-1, 1)
        weights = label_weights.reshape(-1, 1)
        return self.loss_cls(scores, quality[:, None], weights, avg_factor=avg_factor), loss_bbox
