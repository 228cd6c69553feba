"""The losses: five of pretraining, and the one of fine-tuning."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from open_clip.loss import gather_features
from torch import Tensor, nn

from regionclip.regions.matching import cosine_logits

_Count = TypeVar("_Count", int, float, Tensor)


def joint_mean(count: _Count) -> _Count | float:
    """Return the mean of ``count`` over all processes, which must all call this; ``count`` itself where there is one.

    Training averages the gradients of the processes. Each dividing its sum by its own count would weigh the pictures
    of a process with few regions more; all dividing by this number gives what one process would compute.

    A tensor stays on its device, so that nobody waits for it.
    """
    if get_world_size() == 1:
        return count
    mean = torch.as_tensor(count).detach().double()
    all_reduce(mean, "mean")
    return mean.float() if isinstance(count, Tensor) else mean.item()


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
    """-log P(own concept), each region's concept being one column (paper 3.2; official ``MILCrossEntropy``).

    Columns with a region's own concept are its positives; their probabilities are summed inside the logarithm.
    Negatives come from the joint batch of all processes. The official code takes those of one GPU's pictures, so that
    its loss depends on how many GPUs there are.
    """

    def forward(self, features: Tensor, bank: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
        """Return the loss, whose mean over the processes is the mean over the kept regions of all.

        Args:
            features: Region features (N, D), any norm.
            bank: Concept embeddings (C, D), any norm.
            labels: (N,) concept of each region.
            keep: (N,) bool: which regions take part, as rows and as columns; some, in some process.
        """
        columns, kept = labels, keep
        if get_world_size() > 1:
            columns, kept = _gathered(labels), _gathered(keep)
        logits = cosine_logits(features, bank[columns], self.temperature).masked_fill(~kept, -torch.inf)
        # A region that takes no part has all columns for its own, and so no loss.
        others = (labels[:, None] != columns[None, :]) & keep[:, None]
        losses = logits.logsumexp(dim=1) - logits.masked_fill(others, -torch.inf).logsumexp(dim=1)
        return self.loss_weight * (losses.sum() / joint_mean(keep.sum()))


def _gathered(values: Tensor) -> Tensor:
    """Return the values (N,) of all processes, whose N may differ."""
    return torch.cat([part.to(values.device) for part in all_gather_object(values.cpu())])


@MODELS.register_module()
class ConceptDistillationLoss(_Weighted):
    """KL(teacher || student) over the concepts (paper 3.2); the temperature is the student's."""

    def forward(self, features: Tensor, bank: Tensor, index: Tensor, probs: Tensor, keep: Tensor) -> Tensor:
        """Return the loss, whose mean over the processes is the mean over the kept regions of all.

        Args:
            features: Student's region features (N, D), any norm.
            bank: Concept embeddings (C, D), any norm.
            index: (N, k) int64 concepts that the teacher gives a region, each at most once a row.
            probs: (N, k) float32 their probabilities; a row sums to less than 1 when only its top was stored, and the
                other concepts count as 0.
            keep: (N,) bool: which regions take part.
        """
        student = cosine_logits(features, bank, self.temperature).log_softmax(dim=-1).gather(1, index)
        losses = F.kl_div(student, probs, reduction="none").sum(dim=1)
        return self.loss_weight * ((losses * keep).sum() / joint_mean(keep.sum()))


@MODELS.register_module()
class CropDistillationLoss(nn.Module):
    """1 - cosine of a region's feature with the frozen original's embedding of its crop (CLIPSelf, arXiv:2310.01403).

    Args:
        loss_weight: Factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, features: Tensor, crops: Tensor) -> Tensor:
        """Return the loss, whose mean over the processes is the mean over the regions of all.

        Args:
            features: Student's region features (N, D), any norm.
            crops: Embeddings of the regions' crops (N, D), any norm.
        """
        losses = 1 - F.cosine_similarity(features.float(), crops.float(), dim=1)
        return self.loss_weight * (losses.sum() / joint_mean(len(losses)))


@MODELS.register_module()
class ConceptClassificationLoss(_Weighted):
    """Binary cross-entropy of each of a batch's concepts: RegionCLIP's hard labels in CLIPSelf's comparison.

    The concepts are those that regions of the joint batch have, filled up at random to ``CONCEPTS``. The temperature is
    where a learned one starts.
    """

    CONCEPTS = 100

    def __init__(self, temperature: float = 0.01, loss_weight: float = 1.0) -> None:
        super().__init__(temperature, loss_weight)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, features: Tensor, bank: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
        """Return the loss, summed over concepts, whose mean over the processes is that over the kept regions of all.

        Arguments are those of `RegionConceptContrastiveLoss`.
        """
        several = get_world_size() > 1
        there, kept = (_gathered(labels), _gathered(keep)) if several else (labels, keep)
        # Those that are there come first, the others in any order: random numbers are alike in all processes.
        order = torch.rand(len(bank)).to(bank.device)
        order[there[kept]] = -1.0
        concepts = order.argsort()[: max(self.CONCEPTS, len(there[kept].unique()))]
        logits = cosine_logits(features, bank[concepts], 1.0) * self.log_scale.exp()
        own = (labels[:, None] == concepts).float()
        losses = F.binary_cross_entropy_with_logits(logits, own, reduction="none").sum(dim=1)
        return self.loss_weight * ((losses * keep).sum() / joint_mean(keep.sum()))


@MODELS.register_module()
class ImageTextContrastiveLoss(_Weighted):
    """CLIP's symmetric cross-entropy of matching images and texts, over the batches of all processes.

    Gradients go to all of them. Every process must bring the same number of pairs.
    """

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the mean of the two directions.

        Args:
            images: (B, D) image features, any norm.
            texts: (B, D) features of their captions, any norm, in the same order.
        """
        if get_world_size() > 1:
            images, texts = gather_features(
                images, texts, gather_with_grad=True, rank=get_rank(), world_size=get_world_size()
            )
        logits = cosine_logits(images, texts, self.temperature)
        own = torch.arange(len(logits), device=logits.device)
        return self.loss_weight * ((F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2)


@MODELS.register_module()
class FocalScaledCrossEntropy(nn.Module):
    """(1 - p)^gamma * w * cross-entropy, the official losses of fine-tuning (``fast_rcnn.py``), as a ``loss_cls``.

    COCO: ``gamma=0.5, background_weight=0.2, average='regions'``.
    LVIS: ``gamma=0, background_weight=0.8, average='weights'``, PyTorch's weighted cross-entropy. MMDetection's own
    ``CrossEntropyLoss(class_weight=...)`` divides by the number of regions instead and gives another value.

    Args:
        gamma: Exponent of the focal scale.
        background_weight: w of background regions; every other w is 1.
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
        reduction_override: None = None,
    ) -> Tensor:
        """Return the loss, whose mean over the processes is that of the joint batch.

        Args:
            cls_score: Logits (N, K + 1), background last.
            label: (N,) int64 in 0..K; K is background.
            weight: (N,) weight of each sampled region; 1 unless the sampler pads.
            avg_factor: The number of sampled regions of this process, as ``BBoxHead`` counts it; N by default.
            reduction_override: ``BBoxHead``'s, which nothing sets.
        """
        losses = F.cross_entropy(cls_score.float(), label, reduction="none")
        weights = torch.where(label == cls_score.shape[1] - 1, self.background_weight, 1.0)
        if self.gamma == 0:
            losses = weights * losses
        else:
            # 1 - p without cancellation. The floor keeps the power's slope finite where p rounds to 1: with gamma < 1
            # the gradient would be 0 * infinity there, although its limit is 0.
            miss = -torch.expm1(-losses)
            losses = weights * miss.clamp(min=1e-12) ** self.gamma * losses
        if weight is not None:
            losses, weights = losses * weight, weights * weight
        count = len(losses) if avg_factor is None else avg_factor
        loss = (self.loss_weight * losses).sum()
        return loss / joint_mean(count if self.average == "regions" else weights.sum())
