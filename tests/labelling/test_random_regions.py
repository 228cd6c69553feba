"""Random regions lie on the official grid, inside the picture, and belong to the picture's id."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.structures import DetDataSample

from regionclip.labelling.proposals import valid_regions
from regionclip.labelling.random_regions import RandomRegions


def _sample(identity: int | str, width: int, height: int, scale: float) -> DetDataSample:
    shape = (round(height * scale), round(width * scale))
    return DetDataSample(
        metainfo={
            "img_id": identity,
            "ori_shape": (height, width),
            "img_shape": shape,
            "scale_factor": (shape[1] / width, shape[0] / height),
        }
    )


@given(st.integers(1, 700), st.integers(1, 700), st.floats(0.5, 3), st.integers(0, 99))
def test_every_box_has_an_area_inside_the_picture(width: int, height: int, scale: float, identity: int) -> None:
    """In original pixels; corners are multiples of 8 of the network's pixels, or the picture's border."""
    sample = _sample(identity, width, height, scale)
    if 0 in sample.img_shape:
        return
    boxes = RandomRegions(20, 0).boxes(sample)
    assert boxes.dtype == np.float32 and boxes.shape == (20, 4)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    seen = boxes * np.array([*sample.scale_factor, *sample.scale_factor])
    on_grid = np.abs(seen / 8 - np.round(seen / 8)) < 1e-3
    border = np.isclose(seen, [[*sample.img_shape[::-1]] * 2], atol=1e-2)
    assert (on_grid | border).all()


def test_boxes_depend_on_seed_and_id_alone() -> None:
    """Not on the order or the batch, and ids may be text."""
    draw = RandomRegions(50, 3)
    first, other = (draw.boxes(_sample(identity, 640, 480, 1.5)) for identity in (7, 8))
    assert not np.array_equal(first, other)
    assert np.array_equal(first, RandomRegions(50, 3).boxes(_sample(7, 640, 480, 1.5)))
    assert not np.array_equal(first, RandomRegions(50, 4).boxes(_sample(7, 640, 480, 1.5)))
    assert not np.array_equal(draw.boxes(_sample("a", 640, 480, 1.5)), draw.boxes(_sample("b", 640, 480, 1.5)))


def test_corners_are_drawn_uniformly() -> None:
    """A picture of 4 x 1 cells: each left side once in four; from the second, each right side once in three."""
    boxes = RandomRegions(40_000, 0).boxes(_sample(1, 32, 8, 1.0))
    left, right = boxes[:, 0] / 8, boxes[:, 2] / 8
    assert np.bincount(left.astype(int), minlength=4) / len(boxes) == pytest.approx([0.25] * 4, abs=0.01)
    of_second = right[left == 1].astype(int)
    assert np.bincount(of_second, minlength=5)[2:] / len(of_second) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_a_batch_gets_what_an_rpn_would_give_it() -> None:
    """Readers of proposals take them: boxes of their number, none dropped, logits 0."""
    batch = {"inputs": [torch.zeros(3, 48, 64)] * 2, "data_samples": [_sample(i, 32, 24, 2.0) for i in (1, 2)]}
    samples = RandomRegions(9, 0)(batch)
    assert [sample.img_id for sample in samples] == [1, 2]
    for sample in samples:
        boxes, logits = valid_regions(sample)
        assert boxes.shape == (9, 4) and logits.tolist() == [0.0] * 9
        assert np.array_equal(boxes, RandomRegions(9, 0).boxes(sample))
