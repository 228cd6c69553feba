"""The RoI head of F-ViT: a trained head on a pyramid, and the frozen CLIP's own word on each region."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from torch import Tensor

from regionclip.models.fused_roi_head import FusedRoIHead, fuse
from regionclip.models.proposal_score_roi_head import ProposalScoreRoIHead


@MODELS.register_module()
class FViTRoIHead(FusedRoIHead):
    """`FusedRoIHead` whose frozen embeddings are those of the CLIP's dense map, the last of its maps.

    Args:
        region_extractor: Config of what pools a region of that map to one embedding.
        fusion: ``base`` and ``novel``: the CLIP's share for such classes; None: the trained head alone.
        vlm_temperature: Of the CLIP's probabilities.
        score_mode: As in `ProposalScoreRoIHead`.
        **kwargs: Arguments of ``StandardRoIHead``.
    """

    def __init__(
        self,
        *args: Any,
        region_extractor: dict[str, Any],
        fusion: dict[str, float] | None = None,
        vlm_temperature: float = 1 / 75,
        score_mode: str = "none",
        **kwargs: Any,
    ) -> None:
        ProposalScoreRoIHead.__init__(self, *args, score_mode=score_mode, **kwargs)
        self.fusion, self.vlm_temperature = fusion, vlm_temperature
        self.region_extractor = MODELS.build(region_extractor)
        if fusion is not None:
            self.register_buffer("frozen_classes", torch.zeros_like(self.bbox_head.fc_cls.embeddings))

    def freeze(self) -> None:
        """Keep the vocabulary as the base classes; the CLIP never trained."""
        self.frozen_classes.copy_(self.bbox_head.fc_cls.embeddings)

    def frozen_embeddings(self, maps: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Embed regions (N, 5), picture and xyxy, by the CLIP alone: (N, D), un-normalised."""
        return self.region_extractor(maps[-1:], rois).flatten(1)

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        found = StandardRoIHead._bbox_forward(self, x, rois)
        if not self.training and self.fusion is not None:
            classify = self.bbox_head.fc_cls
            shares = self.shares(classify.compare(self.frozen_classes, 1.0)[:, :-1])
            frozen = classify.compare(self.frozen_embeddings(x, rois), self.vlm_temperature)
            found["cls_score"] = fuse(found["cls_score"], frozen, shares)
        return found
