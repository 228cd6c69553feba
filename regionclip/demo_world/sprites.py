"""One object as a picture: a silhouette scaled, turned, coloured, shaded and cut out with soft edges; and as a mask.

Its surface has the named colour with jitter, a pattern that no caption names, and shading. Masks are as COCO writes
them: tight boxes and polygons along the border of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from regionclip.demo_world.outlines import Outline, Polygon, outline
from regionclip.demo_world.seeding import pick
from regionclip.demo_world.vocabulary import COLOURS

_PATTERNS = ("plain", "plain", "stripes", "dots", "checks", "gradient")
_OVERSAMPLING = 3
_SHIFT = 4  # cv2 reads polygon points with this many fractional bits
_ZOOM = 4  # of a mask whose border becomes polygons
_TOLERANCE = 0.6  # pixels; less would keep every step of the pixel border
_MAX_TURN = 25.0  # degrees; more would turn a house or an arrow into something else


@dataclass(frozen=True)
class Sprite:
    """A cut-out object.

    Attributes:
        rgb: (H, W, 3) float32, 0..255.
        alpha: (H, W) float32, 0..1, how much of the pixel the object covers.
        shadow: (H, W) float32, 0..1, how much the ground darkens.
    """

    rgb: NDArray[np.float32]
    alpha: NDArray[np.float32]
    shadow: NDArray[np.float32]

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels of which the object covers at least half, (H, W)."""
        return self.alpha >= 0.5


def render_sprite(rng: np.random.Generator, shape: str, colour: str, size: float) -> Sprite:
    """Draw an object whose box has the longer side ``size`` (pixels), turned and stretched at random."""
    form = outline(shape)
    move, width, height = _placement(rng, form, size)
    # Moved a little in every channel; a person would still give it that name.
    jittered = np.array(COLOURS[colour], np.float32) * rng.uniform(0.9, 1.06) + rng.normal(0, 5, 3)
    palette = _palette(np.clip(jittered, 0, 255).astype(np.float32))
    alpha, rgb = _paint(form, move, (height, width), palette, size)
    rgb *= _pattern(rng, height, width)
    rgb *= _shading(rng, alpha, size)
    return Sprite(np.clip(rgb, 0, 255, out=rgb), alpha, _shadow(rng, alpha, size))


def _placement(rng: np.random.Generator, form: Outline, size: float) -> tuple[NDArray[np.float32], int, int]:
    """Return the (2, 3) matrix from outline units to pixels of a patch, and the patch's width and height."""
    turn = np.deg2rad(rng.uniform(-_MAX_TURN, _MAX_TURN))
    stretch = np.exp(rng.uniform(-0.18, 0.18))
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rotation @ np.diag([mirror * stretch, 1 / stretch])
    points = np.concatenate(form.body) @ linear.T
    low, high = points.min(0), points.max(0)
    scale = size / (high - low).max()
    margin = 2 + 0.22 * size  # room for the shadow
    width, height = (int(np.ceil(side)) for side in (high - low) * scale + 2 * margin)
    offset = margin - low * scale
    return np.concatenate([linear * scale, offset[:, None]], 1).astype(np.float32), width, height


def _palette(body: NDArray[np.float32]) -> dict[str, tuple[float, ...]]:
    values = {
        "body": body,
        "dark": body * 0.68,
        "light": body * 0.45 + 140,
        "wood": np.array([112, 76, 46]),
        "cream": np.array([232, 216, 184]),
        "paper": np.array([246, 244, 238]),
        "ink": body * 0.2 + 12,
        "line": body * 0.42,
    }
    return {name: tuple(float(v) for v in value) for name, value in values.items()}


def _paint(
    form: Outline, move: NDArray[np.float32], shape: tuple[int, int], palette: dict[str, tuple[float, ...]], size: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fill the polygons on a finer grid and average it down; return alpha (H, W) and RGB (H, W, 3)."""
    height, width = shape
    fine = (height * _OVERSAMPLING, width * _OVERSAMPLING)
    mask, rgb = np.zeros(fine, np.uint8), np.empty((*fine, 3), np.uint8)
    cv2.rectangle(rgb, (0, 0), fine[::-1], palette["body"], -1)
    line = max(2, round(0.035 * size * _OVERSAMPLING))
    for polygon in form.body:
        points = [_fixed(polygon, move)]
        cv2.fillPoly(mask, points, 255, shift=_SHIFT)
        cv2.fillPoly(rgb, points, palette["body"], shift=_SHIFT)
        cv2.polylines(rgb, points, True, palette["line"], line, shift=_SHIFT)
    for polygon, tone in form.details:
        cv2.fillPoly(rgb, [_fixed(polygon, move)], palette[tone], shift=_SHIFT)
    for polygon in form.holes:
        points = [_fixed(polygon, move)]
        cv2.fillPoly(mask, points, 0, shift=_SHIFT)
        cv2.polylines(rgb, points, True, palette["line"], line, shift=_SHIFT)
    rim, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    cv2.drawContours(rgb, rim, -1, palette["line"], line + 2)
    down = (width, height)
    alpha = cv2.resize(mask, down, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return alpha, cv2.resize(rgb, down, interpolation=cv2.INTER_AREA).astype(np.float32)


def _fixed(polygon: Polygon, move: NDArray[np.float32]) -> NDArray[np.int32]:
    points = (polygon @ move[:, :2].T + move[:, 2]) * _OVERSAMPLING - 0.5
    return np.round(points * (1 << _SHIFT)).astype(np.int32)


def _pattern(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Return a brightness factor for each pixel, (height, width, 1), between about 0.7 and 1.1."""
    kind = pick(rng, _PATTERNS)
    if kind == "plain":
        return np.ones((1, 1, 1), np.float32)
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32) - rng.uniform(0, 8)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    if kind == "gradient":
        value = u / max(height, width)
    else:
        wave = 2 * np.pi / (rng.uniform(0.16, 0.3) * max(height, width))
        along, across = np.sin(wave * u), np.sin(wave * v)
        value = {"stripes": along, "checks": 2 * along * across, "dots": 2 * (along + across) - 2}[kind]
    return (1 - rng.uniform(0.14, 0.24) * (np.clip(1.6 * value, -1, 1)[..., None] * 0.5 + 0.5)).astype(np.float32)


def _shading(rng: np.random.Generator, alpha: NDArray[np.float32], size: float) -> NDArray[np.float32]:
    """Return a brightness factor (H, W, 1) that makes the silhouette ``alpha`` (H, W) look thick, lit from above."""
    height = cv2.GaussianBlur(alpha, (0, 0), max(size * 0.07, 0.8))
    light = rng.uniform(np.pi * 1.1, np.pi * 1.9)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) * np.cos(light) + cv2.Sobel(height, cv2.CV_32F, 0, 1) * np.sin(light)
    return np.clip(1 - slope * rng.uniform(0.02, 0.05) * size**0.5, 0.65, 1.3)[..., None]


def _shadow(rng: np.random.Generator, alpha: NDArray[np.float32], size: float) -> NDArray[np.float32]:
    reach = 0.03 + 0.07 * rng.random()
    right, down = round(rng.uniform(-1, 1) * reach * size), round(reach * size)
    soft = cv2.GaussianBlur(alpha, (0, 0), max(0.045 * size, 0.7))
    return np.roll(soft, (down, right), (0, 1)) * np.float32(rng.uniform(0.3, 0.55))


def paste(image: NDArray[np.float32], sprite: Sprite, frame: tuple[int, int]) -> None:
    """Draw ``sprite`` with its shadow on ``image`` (S, S, 3), in place; the patch begins at ``frame`` (left, upper)."""
    inside, cut = overlap(image.shape[0], frame, sprite.alpha.shape)
    alpha = sprite.alpha[cut][..., None]
    ground = image[inside] * (1 - sprite.shadow[cut][..., None])
    image[inside] = ground + (sprite.rgb[cut] - ground) * alpha


def overlap(
    side: int, frame: tuple[int, int], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the slices (rows, columns) of a square picture and of a patch of ``shape`` that lie over each other."""
    inside, cut = [], []
    for start, length in ((frame[1], shape[0]), (frame[0], shape[1])):
        low = max(start, 0)
        high = max(min(start + length, side), low)
        inside.append(slice(low, high))
        cut.append(slice(low - start, high - start))
    return (inside[0], inside[1]), (cut[0], cut[1])


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
