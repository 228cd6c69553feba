"""Image-text contrast: CLIP's own loss between whole images and their captions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.dist import get_rank, get_world_size
from open_clip.loss import gather_features
from torch import Tensor, nn

from regionclip.regions.similarity import cosine_logits


def image_text_contrastive_loss(images: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Return the symmetric cross-entropy of matching each image to its text and each text to its image.

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


@MODELS.register_module()
class ImageTextContrastiveLoss(nn.Module):
    """:func:`image_text_contrastive_loss` over the batches of all processes, gradients included, with a weight.

    Every process must bring the same number of pairs.

    Args:
        temperature: 0.01 in the paper.
        loss_weight: Factor of the result.
    """

    def __init__(self, temperature: float = 0.01, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.loss_weight = temperature, loss_weight

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the loss of ``images`` (B, D) and their ``texts`` (B, D)."""
        if get_world_size() > 1:
            images, texts = gather_features(
                images, texts, gather_with_grad=True, rank=get_rank(), world_size=get_world_size()
            )
        return self.loss_weight * image_text_contrastive_loss(images, texts, self.temperature)
