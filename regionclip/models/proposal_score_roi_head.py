"""An RoI head that also counts how sure the proposal network was that there is an object."""

from __future__ import annotations

from typing import Any, Literal

from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
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
        **kwargs: Arguments of ``StandardRoIHead``.
    """

    def __init__(
        self, *args: Any, score_mode: Literal["none", "official", "sigmoid"] = "official", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if score_mode not in ("none", "official", "sigmoid"):
            raise ValueError(f"score_mode is 'none', 'official' or 'sigmoid', not {score_mode!r}")
        self.score_mode = score_mode

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
        if rcnn_test_cfg is None:
            return raw
        return [best_detections(found.bboxes, found.scores, rcnn_test_cfg) for found in raw]

    def fuse(self, probs: Tensor, logits: Tensor) -> Tensor:
        """Multiply class probabilities (N, K + 1) with the objectness of N proposals, given as logits (N,)."""
        if self.score_mode == "none":
            return probs
        objectness = logits.clamp(min=0) if self.score_mode == "official" else logits.sigmoid()
        return (probs * objectness[:, None]).sqrt()
