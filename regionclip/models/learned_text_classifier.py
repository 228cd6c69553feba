"""A text classifier that learns a projection before it, its temperature, and what background looks like."""

from __future__ import annotations

import math

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from regionclip.models.text_embedding_classifier import TextEmbeddingClassifier


@MODELS.register_module()
class LearnedTextClassifier(TextEmbeddingClassifier):
    """F-ViT's: cosines of projected features with text embeddings and a background row, over a learned temperature.

    Args:
        in_features: Width of the features.
        out_features: K + 1, as ``BBoxHead`` counts.
        embed_dim: D, width of the text embeddings.
        temperature: Where the temperature starts.
    """

    def __init__(self, in_features: int, out_features: int, embed_dim: int, temperature: float = 0.02) -> None:
        super().__init__(embed_dim, out_features, temperature)
        self.projection = nn.Linear(in_features, embed_dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.background = nn.Parameter(torch.randn(embed_dim))

    def forward(self, regions: Tensor) -> Tensor:
        """Score features (N, in_features): logits (N, K + 1), background last."""
        return self.compare(self.projection(regions), (-self.log_scale).exp(), self.background)
