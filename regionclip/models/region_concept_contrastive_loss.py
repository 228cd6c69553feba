"""Region-concept contrast: a region's feature against the concepts of the other regions of the batch."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from mmengine.dist import all_gather_object
from torch import Tensor, nn

from regionclip.models.joint_mean import joint_mean
from regionclip.regions.similarity import cosine_logits


def region_concept_contrastive_loss(
    features: Tensor, bank: Tensor, labels: Tensor, temperature: float, columns: Tensor | None = None
) -> Tensor:
    """Return the mean of -log P(own concept), each region's concept being one column (paper 3.2; ``MILCrossEntropy``).

    Column j is the concept of region j. Columns with region i's own label are its positives; their probabilities
    are summed inside the logarithm.

    Args:
        features: Region features (N, D), any norm, N > 0 in some process.
        bank: Concept embeddings (C, D), any norm.
        labels: (N,) concept of each region.
        temperature: Divides the cosines.
        columns: Concepts of the regions of all processes, these among them; None where there is one.

    Returns:
        A scalar; its mean over the processes is the mean over the regions of all.
    """
    columns = labels if columns is None else columns
    logits = cosine_logits(features, bank[columns], temperature)
    own = logits.masked_fill(labels[:, None] != columns[None, :], -torch.inf)
    return (logits.logsumexp(dim=1) - own.logsumexp(dim=1)).sum() / joint_mean(len(labels))


@MODELS.register_module()
class RegionConceptContrastiveLoss(nn.Module):
    """:func:`region_concept_contrastive_loss` with a weight; negatives come from the joint batch of all processes.

    The official code takes those of one GPU's pictures, so that its loss depends on how many GPUs there are.

    Args:
        temperature: 0.01 in the paper.
        loss_weight: Factor of the result.
    """

    def __init__(self, temperature: float = 0.01, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.loss_weight = temperature, loss_weight

    def forward(self, features: Tensor, bank: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of ``features`` (N, D) for concepts ``labels`` (N,) of ``bank`` (C, D)."""
        columns = torch.cat([part.to(labels.device) for part in all_gather_object(labels.cpu())])
        return self.loss_weight * region_concept_contrastive_loss(features, bank, labels, self.temperature, columns)
