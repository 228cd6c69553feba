"""Cosine similarity over a temperature: the one score that every part of RegionCLIP uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_logits(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Return ``normalise(left) @ normalise(right).T / temperature`` in float32, also under mixed precision.

    A temperature of 0.01 makes logits up to 100, where half precision resolves only 0.06.

    Args:
        left: (N, D), any norm.
        right: (K, D), any norm. A row of zeros has cosine 0 with everything.
        temperature: Above 0.

    Returns:
        (N, K) float32.
    """
    with torch.autocast(left.device.type, enabled=False):
        return F.normalize(left.float(), dim=-1) @ F.normalize(right.float(), dim=-1).T / temperature
