"""Distillation: the student's distribution over the concepts against the teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from regionclip.models.joint_mean import joint_mean
from regionclip.regions.similarity import cosine_logits


def concept_distillation_loss(features: Tensor, bank: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean over regions of KL(teacher || student) over the concepts (paper 3.2).

    Args:
        features: Student's region features (N, D), any norm.
        bank: Concept embeddings (C, D), any norm.
        teacher: (N, C) the teacher's probabilities; a row may sum to less than 1 when only its top was stored.
        temperature: Of the student's softmax; the teacher's is already in its probabilities.

    Returns:
        A scalar; its mean over the processes is the mean over the regions of all.
    """
    student = cosine_logits(features, bank, temperature).log_softmax(dim=-1)
    return F.kl_div(student, teacher, reduction="sum") / joint_mean(len(features))


@MODELS.register_module()
class ConceptDistillationLoss(nn.Module):
    """:func:`concept_distillation_loss` with a weight.

    Args:
        temperature: 0.01 in the paper.
        loss_weight: Factor of the result.
    """

    def __init__(self, temperature: float = 0.01, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.loss_weight = temperature, loss_weight

    def forward(self, features: Tensor, bank: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of ``features`` (N, D) on ``bank`` (C, D) for the distributions ``teacher`` (N, C)."""
        return self.loss_weight * concept_distillation_loss(features, bank, teacher, self.temperature)
