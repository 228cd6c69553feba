"""Silhouettes of the demo world as polygons, about 2 units wide, x to the right and y down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float32]  # (N, 2)


@dataclass(frozen=True)
class Outline:
    """A silhouette.

    Attributes:
        body: Polygons whose union is the object.
        holes: Polygons cut out of it.
        details: (polygon, tone) drawn on the body, in order; a tone is one of the palette of a sprite.
    """

    body: tuple[Polygon, ...]
    holes: tuple[Polygon, ...] = ()
    details: tuple[tuple[Polygon, str], ...] = ()


def _points(*values: tuple[float, float]) -> Polygon:
    return np.array(values, np.float32)


def _ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360, n: int = 28) -> Polygon:
    angle = np.deg2rad(np.linspace(start, stop, n, endpoint=stop - start < 360))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1).astype(np.float32)


def _spikes(points: int, outer: float, inner: float, turn: float = -90) -> Polygon:
    angle = np.deg2rad(turn + np.arange(2 * points) * 180 / points)
    radius = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)


def _box(x1: float, y1: float, x2: float, y2: float) -> Polygon:
    return _points((x1, y1), (x2, y1), (x2, y2), (x1, y2))


def _fish() -> Outline:
    tail = _points((0.45, 0), (1.05, -0.52), (0.9, 0), (1.05, 0.52))
    fin = _points((-0.3, -0.42), (0.25, -0.78), (0.4, -0.3))
    gill = _ellipse(-0.3, 0, 0.1, 0.32, -80, 80)
    eye, pupil = _ellipse(-0.62, -0.12, 0.15, 0.15), _ellipse(-0.64, -0.12, 0.07, 0.07)
    return Outline(
        (fin, tail, _ellipse(-0.2, 0, 0.85, 0.5)),
        details=((tail, "dark"), (gill, "dark"), (eye, "paper"), (pupil, "ink")),
    )


def _house() -> Outline:
    roof = _points((-1, -0.12), (0, -0.98), (1, -0.12))
    chimney = _box(0.4, -0.92, 0.66, -0.3)
    details = ((roof, "dark"), (_box(-0.16, 0.3, 0.2, 0.9), "ink"), (_box(-0.62, 0.16, -0.32, 0.46), "light"))
    return Outline(
        (chimney, _box(-0.78, -0.14, 0.78, 0.9), roof), details=(*details, (_box(0.36, 0.16, 0.64, 0.46), "light"))
    )


def _heart() -> Outline:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return Outline((np.stack([x, y], 1).astype(np.float32) / 16.5,))


def _mushroom() -> Outline:
    cap = np.concatenate([_ellipse(0, 0.05, 1, 0.95, 180, 360), _points((0.9, 0.2), (-0.9, 0.2))])
    stem = _points((-0.3, 0.1), (0.3, 0.1), (0.42, 0.95), (-0.42, 0.95))
    spots = tuple(
        (_ellipse(x, y, r, r), "paper") for x, y, r in ((-0.5, -0.3, 0.17), (0.1, -0.52, 0.2), (0.55, -0.15, 0.15))
    )
    return Outline((stem, cap), details=((stem, "cream"), (cap, "body"), *spots))


def _flower() -> Outline:
    turns = np.deg2rad(np.arange(6) * 60 - 90)
    petals = tuple(_ellipse(0.6 * np.cos(a), 0.6 * np.sin(a), 0.4, 0.4, n=20) for a in turns)
    return Outline(
        (*petals, _ellipse(0, 0, 0.5, 0.5)),
        details=((_ellipse(0, 0, 0.46, 0.46), "body"), (_ellipse(0, 0, 0.3, 0.3), "ink")),
    )


def _boat() -> Outline:
    hull = _points((-1, 0.36), (1, 0.36), (0.62, 0.9), (-0.66, 0.9))
    mast, sail = _box(-0.09, -0.98, 0.05, 0.4), _points((0.1, -0.9), (0.86, 0.22), (0.1, 0.22))
    jib = _points((-0.14, -0.7), (-0.14, 0.22), (-0.72, 0.22))
    return Outline((mast, sail, jib, hull), details=((mast, "wood"), (sail, "light"), (jib, "body")))


def _tree() -> Outline:
    trunk = _box(-0.17, 0.5, 0.17, 1)
    tiers = tuple(
        _points((0, top), (half, foot), (-half, foot))
        for top, half, foot in ((-0.35, 0.82, 0.6), (-0.7, 0.64, 0.1), (-1, 0.46, -0.35))
    )
    return Outline((trunk, *tiers), details=((trunk, "wood"), *((tier, "body") for tier in tiers)))


def _crown() -> Outline:
    rim = ((-0.85, 0.75), (-1, -0.55), (-0.48, 0.05), (0, -0.8), (0.48, 0.05), (1, -0.55), (0.85, 0.75))
    balls = tuple(_ellipse(x, y, 0.13, 0.13, n=14) for x, y in ((-1, -0.55), (0, -0.8), (1, -0.55)))
    band = _box(-0.88, 0.42, 0.88, 0.75)
    return Outline((_points(*rim), *balls), details=((band, "dark"), (_ellipse(0, 0.2, 0.14, 0.14), "paper")))


def _gear() -> Outline:
    angle = np.deg2rad(np.arange(32) * 11.25)
    radius = np.where(np.arange(32) % 4 < 2, 1.0, 0.74)
    teeth = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)
    return Outline((teeth,), holes=(_ellipse(0, 0, 0.26, 0.26),))


def _cloud() -> Outline:
    puffs = ((-0.58, 0.18, 0.42), (0, -0.14, 0.52), (0.58, 0.16, 0.44))
    inner = tuple((_ellipse(x, y, r - 0.08, r - 0.08), "body") for x, y, r in puffs)
    base = _box(-0.58, 0.1, 0.58, 0.6)
    return Outline((*(_ellipse(x, y, r, r) for x, y, r in puffs), base), details=(*inner, (base, "body")))


def _bottle() -> Outline:
    half = ((0.16, -1), (0.16, -0.5), (0.42, -0.15), (0.42, 1))
    return Outline(
        (_points(*half, *((-x, y) for x, y in reversed(half))),), details=((_box(-0.42, 0.1, 0.42, 0.6), "light"),)
    )


_MAKERS: dict[str, Callable[[], Outline]] = {
    "star": lambda: Outline((_spikes(5, 1, 0.45),), details=((_spikes(5, 0.55, 0.25), "light"),)),
    "fish": _fish,
    "ring": lambda: Outline((_ellipse(0, 0, 1, 1, n=40),), holes=(_ellipse(0, 0, 0.56, 0.56, n=32),)),
    "house": _house,
    "heart": _heart,
    "mushroom": _mushroom,
    "arrow": lambda: Outline(
        (_points((-1, -0.3), (0.15, -0.3), (0.15, -0.72), (1, 0), (0.15, 0.72), (0.15, 0.3), (-1, 0.3)),)
    ),
    "flower": _flower,
    "boat": _boat,
    "tree": _tree,
    "moon": lambda: Outline(
        (np.concatenate([_ellipse(0, 0, 1, 1, 48, 312, 40), _ellipse(0.42, 0, 0.79, 0.79, 289, 71, 30)]),)
    ),
    "crown": _crown,
    "hexagon": lambda: Outline((_ellipse(0, 0, 1, 1, n=6),)),
    "plus": lambda: Outline(
        (_box(-0.32, -1, 0.32, 1), _box(-1, -0.32, 1, 0.32)), details=((_box(-0.36, -0.3, 0.36, 0.3), "body"),)
    ),
    "drop": lambda: Outline((np.concatenate([_ellipse(0, 0.35, 0.62, 0.62, -25, 205), _points((0, -1))]),)),
    "bolt": lambda: Outline(
        (_points((0.15, -1), (-0.6, 0.15), (-0.08, 0.15), (-0.25, 1), (0.6, -0.25), (0.08, -0.25)),)
    ),
    "gear": _gear,
    "cloud": _cloud,
    "bottle": _bottle,
    "kite": lambda: Outline((_points((0, -1), (0.62, -0.25), (0, 1), (-0.62, -0.25)),)),
}


@cache
def outline(name: str) -> Outline:
    """Return the silhouette of a shape or a distractor by its name."""
    return _MAKERS[name]()
