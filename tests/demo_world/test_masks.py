"""Boxes and polygons of masks agree with COCO's own decoder."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from regionclip.demo_world.seeding import generator
from regionclip.demo_world.sprites import box_of, polygons_of, render_sprite
from regionclip.demo_world.vocabulary import DISTRACTORS, SHAPES

SIDE = 60


def _decoded(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).astype(bool)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_box_of_counts_pixels_by_hand() -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:8] = True
    assert box_of(mask) == (3, 2, 5, 2)


def test_a_rectangle_becomes_its_four_corners() -> None:
    mask = np.zeros((20, 20), bool)
    mask[4:14, 5:17] = True
    (polygon,) = polygons_of(mask)
    corners = {(round(x), round(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)}
    assert corners == {(5, 4), (17, 4), (17, 14), (5, 14)}


def test_a_hole_stays_a_hole() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - 29.5
    ring = (np.hypot(x, y) < 26) & (np.hypot(x, y) > 13)
    polygons = polygons_of(ring)
    assert len(polygons) == 1
    assert not _decoded(polygons, SIDE, SIDE)[30, 30]
    assert _iou(_decoded(polygons, SIDE, SIDE), ring) > 0.95


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(10, 50), st.integers(10, 50), st.integers(6, 14)), min_size=1, max_size=6))
def test_polygons_decode_to_the_mask(discs: list[tuple[int, int, int]]) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = np.any([np.hypot(x - a, y - b) < r for a, b, r in discs], axis=0)
    assert _iou(_decoded(polygons_of(mask), SIDE, SIDE), mask) > 0.93


def test_every_silhouette_fills_the_size_asked_for() -> None:
    for number, name in enumerate(SHAPES + DISTRACTORS):
        sprite = render_sprite(generator(0, "test", number), name, "blue", 40.0)
        width, height = box_of(sprite.mask)[2:]
        assert 37 <= max(width, height) <= 42, name
        assert _iou(_decoded(polygons_of(sprite.mask), *sprite.mask.shape), sprite.mask) > 0.93, name
