"""Grounds of the pictures: textures that are drawn anew for every picture, in muted colours."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Rng = np.random.Generator


def _noise(rng: Rng, side: int, rows: int, columns: int) -> Image:
    """Smooth noise with about ``rows`` by ``columns`` bumps, (side, side, 1), standard deviation below 1."""
    grid = rng.standard_normal((max(rows, 2), max(columns, 2)), dtype=np.float32)
    return cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)[..., None]


def _grain(rng: Rng, side: int, amount: float) -> Image:
    return _noise(rng, side, side, side) * np.float32(amount)


def _grid(side: int, turn: float = 0.0) -> tuple[Image, Image]:
    y, x = np.mgrid[:side, :side].astype(np.float32)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return (x * c + y * s)[..., None], (y * c - x * s)[..., None]


def _rgb(rng: Rng, red: float, green: float, blue: float, spread: float = 10) -> Image:
    return (np.array([red, green, blue], np.float32) + rng.normal(0, spread) + rng.normal(0, spread / 2, 3)).astype(
        np.float32
    )


def _grass(rng: Rng, side: int) -> Image:
    blades = _noise(rng, side, side // 7, side // 2) * 15 + _noise(rng, side, side // 4, side) * 11
    patches = _noise(rng, side, 3, 3)
    return _rgb(rng, 104, 128, 76) + blades + patches * np.array([10, 5, 3], np.float32)


def _sand(rng: Rng, side: int) -> Image:
    u, _ = _grid(side, rng.uniform(0.9, 2.2))
    ripples = np.sin(u * (2 * np.pi / rng.uniform(9, 18)) + _noise(rng, side, 4, 4) * 2) * rng.uniform(3, 9)
    return _rgb(rng, 202, 180, 140) + ripples.astype(np.float32) + _grain(rng, side, 7) + _noise(rng, side, 3, 3) * 5


def _brick(rng: Rng, side: int) -> Image:
    tall = rng.uniform(10, 16)
    wide = tall * 2.2
    x, y = _grid(side, rng.uniform(-0.06, 0.06))
    x, y = x + 40, y + 40
    row = np.floor(y / tall).astype(np.int32)
    x = x + (row % 2) * wide / 2
    column = np.floor(x / wide).astype(np.int32)
    tint = rng.normal(0, 11, 64).astype(np.float32)[(row * 7 + column * 13) % 64]
    mortar = np.minimum(np.minimum(x % wide, wide - x % wide), np.minimum(y % tall, tall - y % tall)) < 1.1
    wall = _rgb(rng, 148, 98, 82) + tint
    return np.where(mortar, _rgb(rng, 176, 168, 158), wall) + _grain(rng, side, 6) + _noise(rng, side, 4, 4) * 4


def _wood(rng: Rng, side: int) -> Image:
    u, v = _grid(side, rng.choice([0.0, np.pi / 2]) + rng.uniform(-0.05, 0.05))
    plank = rng.uniform(22, 44)
    v = v + 4 * side
    board = np.floor(v / plank).astype(np.int32)
    tint = rng.normal(0, 9, 32).astype(np.float32)[board % 32]
    warp = _noise(rng, side, 5, 5) * 3 + _noise(rng, side, 2, 2) * 4
    lines = np.sin(v * rng.uniform(0.7, 1.2) + warp + tint + 0.02 * u) * 7
    seam = ((v % plank) < 1.3) * -42
    return _rgb(rng, 160, 122, 84) + (tint + lines + seam).astype(np.float32) + _grain(rng, side, 4)


def _water(rng: Rng, side: int) -> Image:
    x, y = _grid(side, rng.uniform(-0.2, 0.2))
    bend = _noise(rng, side, 7, 4) * 2.6
    waves = np.sin(y * (2 * np.pi / rng.uniform(9, 17)) + bend + 0.03 * x)
    foam = np.clip(waves - 0.6, 0, 1) * rng.uniform(40, 90)
    return _rgb(rng, 92, 140, 158) + waves * 9 + foam + _noise(rng, side, 3, 3) * 6 + _grain(rng, side, 3)


def _snow(rng: Rng, side: int) -> Image:
    drifts = _noise(rng, side, 4, 4) * np.array([9, 7, 4], np.float32) + _noise(rng, side, 10, 10) * 4
    return _rgb(rng, 206, 214, 226, 6) + drifts + _grain(rng, side, 4)


def _cells(rng: Rng, side: int, pitch: float) -> tuple[NDArray[np.int32], Image]:
    """Split the picture into irregular cells; return each pixel's cell and its distance to the cell's seed."""
    count = int(side / pitch) + 2
    at = (
        np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1) + rng.uniform(-0.15, 0.85, (count, count, 2))
    ) * pitch
    at = at.reshape(-1, 2).astype(np.int32)
    at = at[((at >= 0) & (at < side)).all(1)]
    seeds = np.ones((side, side), np.uint8)
    seeds[at[:, 1], at[:, 0]] = 0
    distance, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return label, distance


def _paving(rng: Rng, side: int, pitch: float, colour: Image, spread: float, gap: float) -> Image:
    label, distance = _cells(rng, side, pitch)
    tint = rng.normal(0, spread, 1024).astype(np.float32)[label % 1024]
    edge = cv2.morphologyEx(label.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    edge = cv2.blur(edge.astype(np.float32), (3, 3))
    return colour + (tint - edge * gap - distance * (14 / pitch))[..., None] + _grain(rng, side, 5)


def _cloth(rng: Rng, side: int) -> Image:
    x, y = _grid(side, rng.uniform(-0.5, 0.5))
    step = 2 * np.pi / rng.uniform(14, 32)
    first, second = rng.uniform(-26, 26, (2, 3)).astype(np.float32)
    weave = np.sin(x * 2.1) * np.sin(y * 2.1) * 5
    return (
        rng.uniform(125, 185)
        + rng.uniform(-18, 18, 3)
        + (np.sin(x * step) > 0.3) * first
        + (np.sin(y * step) > 0.3) * second
        + weave
    )


def _sky(rng: Rng, side: int) -> Image:
    ramp = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    blue = _rgb(rng, 138, 172, 206) * (1 - ramp) + _rgb(rng, 200, 212, 220) * ramp
    cover = _noise(rng, side, 3, 3) + _noise(rng, side, 7, 6) * 0.5 + _noise(rng, side, 16, 14) * 0.2
    cover = np.clip(cover * 0.8 - rng.uniform(-0.3, 0.5), 0, 0.85)
    return blue * (1 - cover) + _rgb(rng, 226, 228, 230, 5) * cover


_PAINTERS: dict[str, Callable[[Rng, int], Image]] = {
    "grass": _grass,
    "sand": _sand,
    "brick": _brick,
    "wood": _wood,
    "water": _water,
    "snow": _snow,
    "stone": lambda rng, side: (
        _paving(rng, side, rng.uniform(22, 36), _rgb(rng, 150, 148, 144), 10, 46) + _noise(rng, side, 6, 6) * 4
    ),
    "cloth": _cloth,
    "sky": _sky,
    "gravel": lambda rng, side: _paving(rng, side, rng.uniform(5, 8), _rgb(rng, 160, 154, 148), 17, 30),
}


def paint_ground(rng: Rng, name: str, side: int) -> Image:
    """Return the ground ``name`` as (side, side, 3) float32 RGB, about 0..255, lit unevenly."""
    light = 1 + 0.08 * _noise(rng, side, 2, 2)
    return (_PAINTERS[name](rng, side) * light).astype(np.float32)
