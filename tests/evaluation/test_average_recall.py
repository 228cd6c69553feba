"""Average recall: hand-computed values, a slow reference, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IOUS
from regionclip.evaluation.recall import average_recall

Box = tuple[float, float, float, float]


@st.composite
def boxes(draw: st.DrawFn, most: int) -> list[Box]:
    corner, size = st.integers(0, 20), st.integers(1, 20)
    items = draw(st.lists(st.tuples(corner, corner, size, size), max_size=most, unique=True))
    return [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in items]


def test_hand_computed_recall() -> None:
    """Base: an exact hit by the first proposal (10 of 10 thresholds) and an IoU of 0.62 by the third (3 of 10).
    Novel: nothing. With two proposals a base object is out of reach: AR = 10 / 20; with three, 13 / 20."""
    truth = {
        "a": (np.array([[0, 0, 10, 10], [100, 100, 200, 200], [300, 300, 310, 310]]), np.array([1, 2, 9])),
        "b": (np.zeros((0, 4)), np.zeros(0)),
    }
    proposals = {"a": np.array([[0, 0, 10, 10], [50, 50, 60, 60], [100, 100, 162, 200]]), "b": np.array([[0, 0, 5, 5]])}
    result = average_recall(truth, proposals, {"base": {1, 2}, "novel": {9}, "none": {4}}, limits=(2, 3))
    assert result["ar2_base"] == pytest.approx(0.5)
    assert result["ar3_base"] == pytest.approx(0.65)
    assert (result["ar3_novel"], result["ar3_none"]) == (0.0, None)
    assert result["objects"] == {"base": 2, "novel": 1, "none": 0}


def test_a_proposal_finds_one_object_only() -> None:
    """Two equal objects, one proposal: half of them are found."""
    truth = {0: ([[0, 0, 10, 10], [0, 0, 10, 10]], [1, 1])}
    assert average_recall(truth, {0: [[0, 0, 10, 10]]}, {"all": {1}}, limits=(100,))["ar100_all"] == pytest.approx(0.5)


def test_an_image_without_an_entry_is_refused() -> None:
    with pytest.raises(InputError, match="image 7: the image has no proposals"):
        average_recall({7: ([[0, 0, 1, 1]], [1])}, {}, {"all": {1}})


@settings(max_examples=60)
@given(boxes(5), boxes(12), st.integers(1, 12))
def test_equals_a_slow_reference(objects: list[Box], proposals: list[Box], limit: int) -> None:
    result = average_recall({1: (objects, [1] * len(objects))}, {1: proposals}, {"all": {1}}, limits=(limit,))
    wanted = [_slow_recall(objects, proposals[:limit], threshold) for threshold in IOUS]
    assert result[f"ar{limit}_all"] == (pytest.approx(float(np.mean(wanted))) if objects else None)


@settings(max_examples=40)
@given(boxes(5), boxes(12), st.integers(-50, 50), st.integers(1, 4))
def test_recall_grows_with_the_limit_and_ignores_place_and_scale(
    objects: list[Box], proposals: list[Box], shift: int, scale: int
) -> None:
    def measure(offset: float, factor: float) -> list[float | None]:
        moved, found = (np.array(b, dtype=float).reshape(-1, 4) * factor + offset for b in (objects, proposals))
        result = average_recall({1: (moved, [1] * len(objects))}, {1: found}, {"all": {1}}, limits=(1, 3, 100))
        return [result[f"ar{limit}_all"] for limit in (1, 3, 100)]

    values = measure(0, 1)
    assert measure(float(shift), float(scale)) == (pytest.approx(values) if objects else [None] * 3)
    assert not objects or 0 <= values[0] <= values[1] <= values[2] <= 1


@settings(max_examples=40)
@given(boxes(6))
def test_the_objects_themselves_as_proposals_find_everything(objects: list[Box]) -> None:
    result = average_recall({1: (objects, [1] * len(objects))}, {1: objects}, {"all": {1}}, limits=(100,))
    assert result["ar100_all"] == (1.0 if objects else None)


def _slow_recall(objects: list[Box], proposals: list[Box], threshold: float) -> float:
    free = set(range(len(objects)))
    for box in proposals:
        # Of equal overlaps COCO takes the later object.
        best = max(((_iou(box, objects[i]), i) for i in free), default=(0.0, -1))
        if best[0] >= threshold:
            free.remove(best[1])
    return 1 - len(free) / len(objects) if objects else 0.0


def _iou(a: Box, b: Box) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
