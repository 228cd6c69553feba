"""The classification losses of fine-tuning: cross-entropy, scaled by difficulty and by background weight."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from regionclip.models.joint_mean import joint_mean


def focal_scaled_cross_entropy(
    logits: Tensor, labels: Tensor, gamma: float, background_weight: float
) -> tuple[Tensor, Tensor]:
    """Return (1 - p_y)^gamma * w_y * CE of each region, and w_y, both (N,) float32.

    Args:
        logits: (N, K + 1), background last.
        labels: (N,) int64 in 0..K; K is background.
        gamma: 0 gives plain cross-entropy.
        background_weight: w of background regions; every other w is 1.
    """
    entropy = F.cross_entropy(logits.float(), labels, reduction="none")
    weight = torch.where(labels == logits.shape[1] - 1, background_weight, 1.0)
    if gamma == 0:
        return weight * entropy, weight
    # 1 - p without cancellation. The floor keeps the power's slope finite where p rounds to 1: with gamma < 1 the
    # gradient would be 0 * infinity there, although its limit is 0.
    miss = -torch.expm1(-entropy)
    return weight * miss.clamp(min=1e-12) ** gamma * entropy, weight


@MODELS.register_module()
class FocalScaledCrossEntropy(nn.Module):
    """Official classification losses of fine-tuning (``fast_rcnn.py``), called as ``BBoxHead`` calls its ``loss_cls``.

    COCO: ``gamma=0.5, background_weight=0.2, average='regions'``.
    LVIS: ``gamma=0, background_weight=0.8, average='weights'``, PyTorch's weighted cross-entropy. MMDetection's own
    ``CrossEntropyLoss(class_weight=...)`` divides by the number of regions instead and gives another value.

    Args:
        gamma: Exponent of the focal scale.
        background_weight: Weight of background regions.
        average: Divide the sum by the number of regions, or by the sum of their weights.
        loss_weight: Factor of the result.
    """

    def __init__(
        self,
        gamma: float = 0.5,
        background_weight: float = 0.2,
        average: Literal["regions", "weights"] = "regions",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if average not in ("regions", "weights"):
            raise ValueError(f"average is 'regions' or 'weights', not {average!r}")
        self.gamma, self.background_weight = gamma, background_weight
        self.average, self.loss_weight = average, loss_weight

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Return the loss of ``cls_score`` (N, K + 1) for ``label`` (N,).

        Args:
            cls_score: Logits, background last.
            label: Class of each region; K is background.
            weight: (N,) weight of each sampled region; 1 unless the sampler pads.
            avg_factor: The number of sampled regions of this process, as ``BBoxHead`` counts it; N by default.
            reduction_override: 'none' gives (N,), 'sum' the sum; default the average, whose mean over the processes
                is that of the joint batch.
        """
        losses, weights = focal_scaled_cross_entropy(cls_score, label, self.gamma, self.background_weight)
        if weight is not None:
            losses, weights = losses * weight, weights * weight
        losses = self.loss_weight * losses
        if reduction_override == "none":
            return losses
        if reduction_override == "sum":
            return losses.sum()
        count = len(losses) if avg_factor is None else avg_factor
        return losses.sum() / joint_mean(count if self.average == "regions" else weights.sum())
