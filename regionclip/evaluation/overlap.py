"""Overlap of boxes as corners, in numpy: who only draws or counts boxes imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def overlaps(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the IoU of all pairs.

    Args:
        first: (N, 4) xyxy, N may be 0.
        second: (M, 4) xyxy, M may be 0.

    Returns:
        (N, M), 0..1; computed in float64, so that an IoU of exactly 0.5 reaches a threshold of 0.5.
    """
    one, other = (np.asarray(given, dtype=np.float64).reshape(-1, 4) for given in (first, second))
    sides = np.minimum(one[:, None, 2:], other[:, 2:]) - np.maximum(one[:, None, :2], other[:, :2])
    both = sides.clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    return np.divide(both, areas[0][:, None] + areas[1] - both, out=np.zeros_like(both), where=both > 0)
