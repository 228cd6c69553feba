"""Masks as COCO writes them: tight boxes and polygons along the border of pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_ZOOM = 4
_TOLERANCE = 0.6  # pixels; less would keep every step of the pixel border


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return the tight box (x, y, width, height) of a mask (H, W) that is not empty."""
    return cv2.boundingRect(mask.astype(np.uint8))


def polygons_of(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Return a mask (H, W) as COCO polygons ``[[x1, y1, x2, y2, ...], ...]`` in pixels.

    COCO polygons have no holes, so a hole is joined to its outer border by a cut of no width.
    """
    x, y, width, height = box_of(mask)
    patch = mask[y : y + height, x : x + width].astype(np.uint8)
    patch = cv2.resize(patch, (width * _ZOOM, height * _ZOOM), interpolation=cv2.INTER_NEAREST)
    contours, tree = cv2.findContours(patch, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    lines = [cv2.approxPolyDP(contour, _TOLERANCE * _ZOOM, True)[:, 0].astype(np.float64) for contour in contours]
    polygons = []
    for number, (_, _, child, parent) in enumerate(tree[0]):
        if parent >= 0 or len(lines[number]) < 3:
            continue
        border = lines[number]
        while child >= 0:
            # Splice the hole in where the two are closest.
            gaps = ((border[:, None] - lines[child][None]) ** 2).sum(-1)
            at, start = np.unravel_index(int(gaps.argmin()), gaps.shape)
            loop = np.roll(lines[child], -int(start), 0)
            border = np.concatenate([border[: at + 1], loop, loop[:1], border[at:]])
            child = tree[0][child][0]
        points = np.round((border + 0.5) / _ZOOM + (x, y), 1)
        polygons.append([float(v) for v in points.ravel()])
    return polygons
