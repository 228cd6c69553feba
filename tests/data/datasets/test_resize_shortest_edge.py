"""MMDetection's ResizeShortestEdge gives a picture Detectron2's size and Pillow's pixels; its Resize may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import DefaultScope
from PIL import Image

import regionclip.data.datasets.transforms  # noqa: F401  makes mmdet importable

SIDES = st.integers(16, 3000)


def _step(**config: Any) -> Any:
    from mmdet.registry import TRANSFORMS

    with DefaultScope.overwrite_default_scope("mmdet"):
        return TRANSFORMS.build(dict(type="ResizeShortestEdge", backend="pillow") | config)


class _Picture:
    """Stands for a picture of which only the shape is read."""

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width, 3)


@given(height=SIDES, width=SIDES, shortest=st.sampled_from([640, 672, 704, 736, 768, 800]))
def test_size_keeps_the_shape_and_the_limits(height: int, width: int, shortest: int) -> None:
    """The shorter side has its length or the longer one its limit, and the other is right to half a pixel."""
    step = _step(scale=shortest, max_size=1333)
    new_width, new_height = step._get_output_shape(_Picture(height, width), shortest)
    limited = max(height, width) * shortest > 1333 * min(height, width)
    assert max(new_height, new_width) == 1333 if limited else min(new_height, new_width) == shortest
    scale = min(shortest / min(height, width), 1333 / max(height, width))
    assert abs(new_height - height * scale) <= 0.5 + 1e-6 and abs(new_width - width * scale) <= 0.5 + 1e-6


def test_halves_are_rounded_as_detectron2_rounds_them() -> None:
    """36 x 248 at 672 / 1333 gives 193.5 less a rounding error; the stock rule goes straight to 194."""
    picture = np.zeros((36, 248, 3), np.uint8)
    stock = _step(type="Resize", scale=(1333, 672), keep_ratio=True)(dict(img=picture))
    assert stock["img"].shape[:2] == (194, 1333)
    assert _step(scale=672, max_size=1333)(dict(img=picture))["img"].shape[:2] == (193, 1333)


@pytest.mark.parametrize(("height", "width", "size"), [(48, 64, (24, 32)), (61, 40, (37, 24)), (30, 200, (15, 100))])
def test_pixels_are_pillows_bilinear_ones(height: int, width: int, size: tuple[int, int]) -> None:
    """Antialiased when shrinking; boxes will follow the picture, each side by its own factor."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = _step(scale=24, max_size=100)(dict(img=picture))
    expected = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(found["img"], np.asarray(expected))
    assert found["scale_factor"] == pytest.approx((size[1] / width, size[0] / height))


def test_random_choice_sets_the_shortest_edge() -> None:
    """The sizes of fine-tuning go through MMDetection's own RandomChoiceResize."""
    scales = [(100, 40), (100, 50)]
    step = _step(type="RandomChoiceResize", scales=scales, resize_type="ResizeShortestEdge", max_size=100)
    found = {step(dict(img=np.zeros((60, 80, 3), np.uint8)))["img"].shape[:2] for _ in range(20)}
    assert found == {(40, 53), (50, 67)}
