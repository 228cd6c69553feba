"""A region proposal head that reports raw objectness logits."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from regionclip.models.losses import joint_mean


@MODELS.register_module()
class LogitRPNHead(RPNHead):
    """``RPNHead`` whose proposals carry ``scores`` = logits, which :class:`ProposalScoreRoIHead` multiplies.

    ``RPNHead`` ranks by sigmoid. Here it gets logits in float64, so that the sigmoid keeps their order and can be
    undone: the error is about 1e-16 * exp(|logit|), below float32's own resolution up to |logit| = 20 and finite up
    to 36. Scores are float32 logits again before NMS, which only needs their order.
    """

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple:
        """Return the targets as ``AnchorHead`` does; the last, the number of anchors, as the mean over processes."""
        *targets, count = super().get_targets(*args, **kwargs)
        return (*targets, joint_mean(count))

    def predict_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], *args: Any, **kwargs: Any
    ) -> InstanceList:
        """Turn the head's outputs into proposals; arguments as in ``RPNHead``.

        Under mixed precision the outputs are half precision, and ``RPNHead`` would make its anchors so too.

        Returns:
            For each image bboxes (n, 4) xyxy, scores (n,) float32 logits, best first, and labels (n,) of zeros.
        """
        cls_scores, bbox_preds = ([level.float() for level in levels] for levels in (cls_scores, bbox_preds))
        return super().predict_by_feat(cls_scores, bbox_preds, *args, **kwargs)

    def _predict_by_feat_single(self, cls_score_list: list[Tensor], *args: Any, **kwargs: Any) -> InstanceData:
        return super()._predict_by_feat_single([level.double() for level in cls_score_list], *args, **kwargs)

    def _bbox_post_process(self, results: InstanceData, *args: Any, **kwargs: Any) -> InstanceData:
        results.scores = torch.logit(results.scores).float()
        return super()._bbox_post_process(results, *args, **kwargs)
