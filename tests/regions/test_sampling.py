"""Regions are drawn uniformly, and boxes follow the image."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regionclip.regions.sampling import clip_boxes, flip_boxes, sample_regions, scale_boxes

WIDTH, HEIGHT = 640, 480
whole_boxes = arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(-50, 700).map(float))


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 1000))
def test_sample_is_a_subset_of_the_wanted_size(n_total, n, seed):
    """The indices are different, in range, and as many as wanted or as there are."""
    indices = sample_regions(n_total, n, np.random.default_rng(seed))
    assert len(indices) == len(set(indices.tolist())) == min(n, n_total)
    assert all(0 <= index < n_total for index in indices)


def test_every_region_is_as_likely():
    """Over many draws each region is chosen about equally often: not the first n."""
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([sample_regions(10, 3, rng) for _ in range(3000)]), minlength=10)
    assert np.abs(counts / 3000 - 0.3).max() < 0.04


def test_boxes_by_hand():
    """One box scaled, flipped and clipped, computed by hand."""
    box = np.array([[10, 20, 30, 60]], np.float32)
    assert scale_boxes(box, (0.5, 2.0)).tolist() == [[5, 40, 15, 120]]
    assert flip_boxes(box, 100).tolist() == [[70, 20, 90, 60]]
    assert clip_boxes(box, height=50, width=25).tolist() == [[10, 20, 25, 50]]


@given(whole_boxes)
def test_flip_twice_is_the_same(boxes):
    """Flipping is its own inverse, and keeps order and size of the sides."""
    once = flip_boxes(boxes, WIDTH)
    np.testing.assert_array_equal(flip_boxes(once, WIDTH), boxes)
    np.testing.assert_array_equal(once[:, 2:] - once[:, :2], boxes[:, 2:] - boxes[:, :2])


@given(whole_boxes)
def test_scale_and_flip_commute(boxes):
    """Flipping the image after doubling it, or before, gives the same boxes."""
    np.testing.assert_array_equal(
        flip_boxes(scale_boxes(boxes, (2, 2)), 2 * WIDTH), scale_boxes(flip_boxes(boxes, WIDTH), (2, 2))
    )


@given(whole_boxes)
def test_clipped_boxes_are_inside(boxes):
    """Clipped boxes lie in the image; clipping again changes nothing."""
    clipped = clip_boxes(boxes, HEIGHT, WIDTH)
    assert clipped.dtype == np.float32 and (clipped >= 0).all() and (clipped <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    np.testing.assert_array_equal(clip_boxes(clipped, HEIGHT, WIDTH), clipped)
