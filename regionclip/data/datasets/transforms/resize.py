"""Resizing that a thin picture lives through: MMDetection rounds its short side down to nothing."""

from __future__ import annotations

import mmcv
import numpy as np
from mmdet.datasets.transforms import ResizeShortestEdge
from mmdet.registry import TRANSFORMS

from regionclip.data.pictures import thick


@TRANSFORMS.register_module()
class ResizeShortSide(ResizeShortestEdge):
    """MMDetection's ``ResizeShortestEdge``, its sizes made `thick`."""

    def _get_output_shape(self, img: np.ndarray, short_edge_length: int | tuple[int, int]) -> tuple[int, int]:
        short = short_edge_length if isinstance(short_edge_length, int) else min(short_edge_length)
        return thick(super()._get_output_shape(img, short), short)


@TRANSFORMS.register_module()
class ResizeWithin(ResizeShortestEdge):
    """MMDetection's ``Resize`` with ``keep_ratio``, its sizes made `thick`."""

    def _get_output_shape(self, img: np.ndarray, short_edge_length: tuple[int, int]) -> tuple[int, int]:
        height, width = img.shape[:2]
        return thick(mmcv.rescale_size((width, height), short_edge_length), min(short_edge_length))
