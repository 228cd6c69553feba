"""IoU of boxes: hand-computed values and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regionclip.evaluation.overlap import overlaps

corners_and_sizes = arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(1, 200, width=32))


def test_hand_computed_overlaps() -> None:
    """A box with itself, with its half, with a box that shares a quarter of each (100 / 700), and apart."""
    others = [[0, 0, 20, 20], [0, 0, 20, 10], [10, 10, 30, 30], [20, 0, 30, 10]]
    assert overlaps([[0, 0, 20, 20]], others)[0] == pytest.approx([1, 0.5, 1 / 7, 0])
    assert overlaps([], others).shape == (0, 4)


@given(corners_and_sizes, corners_and_sizes)
def test_overlap_is_symmetric_bounded_and_one_with_itself(first: np.ndarray, second: np.ndarray) -> None:
    first, second = (np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (first, second))
    iou = overlaps(first, second)
    np.testing.assert_allclose(iou, overlaps(second, first).T)
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_allclose(np.diag(overlaps(first, first)), 1)
