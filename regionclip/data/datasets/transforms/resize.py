"""Resizing that a thin picture lives through: MMDetection rounds its short side down to nothing."""

from __future__ import annotations

import mmcv
import numpy as np
from mmdet.datasets.transforms import ResizeShortestEdge
from mmdet.registry import TRANSFORMS

LEAST_SIDE = 16
"""Pixels. CLIP's tower halves a picture four times on the way to its map, and 1 / 16 of less is nothing."""


def size_within(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size (w, h) of the shape of ``size`` within long and short side ``scale``, rounded half up.

    Where that is thinner than `LEAST_SIDE`, the picture is made thicker: stretched, and its boxes with it.
    """
    return thick(mmcv.rescale_size(size, scale), min(scale))


def thick(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Return a size with no side below `LEAST_SIDE`, or below the wanted ``short`` side where that is less."""
    width, height = (max(side, min(LEAST_SIDE, short)) for side in size)
    return width, height


@TRANSFORMS.register_module()
class ResizeShortSide(ResizeShortestEdge):
    """MMDetection's ``ResizeShortestEdge``, no side below `LEAST_SIDE`."""

    def _get_output_shape(self, img: np.ndarray, short_edge_length: int | tuple[int, int]) -> tuple[int, int]:
        short = short_edge_length if isinstance(short_edge_length, int) else min(short_edge_length)
        return thick(super()._get_output_shape(img, short), short)


@TRANSFORMS.register_module()
class ResizeWithin(ResizeShortestEdge):
    """MMDetection's ``Resize`` with ``keep_ratio``, no side below `LEAST_SIDE`."""

    def _get_output_shape(self, img: np.ndarray, short_edge_length: tuple[int, int]) -> tuple[int, int]:
        height, width = img.shape[:2]
        return size_within((width, height), short_edge_length)
