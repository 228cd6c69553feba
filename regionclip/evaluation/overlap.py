"""Overlap of boxes: torchvision's IoU for numpy arrays."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torchvision.ops import box_iou


def overlaps(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the IoU of all pairs.

    Args:
        first: (N, 4) xyxy, N may be 0.
        second: (M, 4) xyxy, M may be 0.

    Returns:
        (N, M), 0..1; computed in float64, so that an IoU of exactly 0.5 reaches a threshold of 0.5.
    """
    boxes = (torch.from_numpy(np.asarray(given, dtype=np.float64).reshape(-1, 4)) for given in (first, second))
    return box_iou(*boxes).numpy()
