"""The losses: three of pretraining, each a function and a registered module, and the one of fine-tuning."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from open_clip.loss import gather_features
from torch import Tensor, nn

from regionclip.regions.matching import cosine_logits


def joint_mean(count: float | Tensor) -> float:
    """Return the mean of ``count`` over all processes, which must all call this; ``count`` itself where there is one.

    Training averages the gradients of the processes. Each dividing its sum by its own count would weigh the pictures
    of a process with few regions more; all dividing by this number gives what one process would compute.
    """
    mean = torch.as_tensor(count).detach().cpu().double()
    all_reduce(mean, "mean")
    return mean.item()


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


def image_text_contrastive_loss(images: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Return CLIP's symmetric cross-entropy of matching each image to its text and each text to its image.

    Args:
        images: (B, D) image features, any norm.
        texts: (B, D) features of their captions, any norm, in the same order.
        temperature: Divides the cosines.

    Returns:
        A scalar, the mean of the two directions.
    """
    logits = cosine_logits(images, texts, temperature)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class _Weighted(nn.Module):
    """A loss with its two settings.

    Args:
        temperature: 0.01 in the paper.
        loss_weight: Factor of the result.
    """

    def __init__(self, temperature: float = 0.01, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.loss_weight = temperature, loss_weight


@MODELS.register_module()
class RegionConceptContrastiveLoss(_Weighted):
    """:func:`region_concept_contrastive_loss` with a weight; negatives come from the joint batch of all processes.

    The official code takes those of one GPU's pictures, so that its loss depends on how many GPUs there are.
    """

    def forward(self, features: Tensor, bank: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of ``features`` (N, D) for concepts ``labels`` (N,) of ``bank`` (C, D)."""
        columns = torch.cat([part.to(labels.device) for part in all_gather_object(labels.cpu())])
        return self.loss_weight * region_concept_contrastive_loss(features, bank, labels, self.temperature, columns)


@MODELS.register_module()
class ConceptDistillationLoss(_Weighted):
    """:func:`concept_distillation_loss` with a weight."""

    def forward(self, features: Tensor, bank: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of ``features`` (N, D) on ``bank`` (C, D) for the distributions ``teacher`` (N, C)."""
        return self.loss_weight * concept_distillation_loss(features, bank, teacher, self.temperature)


@MODELS.register_module()
class ImageTextContrastiveLoss(_Weighted):
    """:func:`image_text_contrastive_loss` over the batches of all processes, gradients included, with a weight.

    Every process must bring the same number of pairs.
    """

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the loss of ``images`` (B, D) and their ``texts`` (B, D)."""
        if get_world_size() > 1:
            images, texts = gather_features(
                images, texts, gather_with_grad=True, rank=get_rank(), world_size=get_world_size()
            )
        return self.loss_weight * image_text_contrastive_loss(images, texts, self.temperature)


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
