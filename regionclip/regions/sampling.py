"""Regions in training: a random subset of an image's regions, and boxes that follow the image's scale and flip."""

from __future__ import annotations

import numpy as np


def sample_regions(n_total: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Choose ``n`` regions, or all where there are fewer: int64 [min(n, n_total)], ascending.

    They are drawn uniformly without replacement, as the official pretraining does (not the top n).
    """
    return np.sort(rng.permutation(n_total)[:n])


def scale_boxes(boxes: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Scale boxes [n, 4] (xyxy) by ``scale`` (width, height); returns float32."""
    return (boxes * np.array([*scale, *scale])).astype(np.float32)


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirror boxes [n, 4] (xyxy) left to right in an image of ``width`` pixels; returns float32."""
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).T
    return np.stack([width - x2, y1, width - x1, y2], axis=1)


def clip_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Clip boxes [n, 4] (xyxy) to the image; returns float32."""
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(np.asarray(boxes, np.float32), 0, limit)
