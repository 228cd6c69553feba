"""Top-1 of regions: hand-computed fractions by group and by class."""

from __future__ import annotations

import numpy as np
import pytest

from regionclip.errors import InputError
from regionclip.evaluation.region_classification import top1_by_split


def test_hand_computed_top1() -> None:
    """Class 1: 3 of 4; class 2: 0 of 1; class 7: 1 of 2. Base 3/5 over regions, (3/4 + 0) / 2 over classes."""
    labels, predictions = [1, 1, 1, 1, 2, 7, 7], [1, 1, 1, 7, 1, 7, 2]
    result = top1_by_split(labels, predictions, {"base": {1, 2}, "novel": {7}, "all": {1, 2, 7}, "empty": {9}})
    assert result["top1_base"] == pytest.approx(3 / 5)
    assert result["class_mean_top1_base"] == pytest.approx(3 / 8)
    assert result["top1_novel"] == result["class_mean_top1_novel"] == pytest.approx(1 / 2)
    assert result["top1_all"] == pytest.approx(4 / 7)
    assert result["class_mean_top1_all"] == pytest.approx((3 / 4 + 0 + 1 / 2) / 3)
    assert (result["top1_empty"], result["class_mean_top1_empty"]) == (None, None)
    assert result["per_class"] == pytest.approx({1: 0.75, 2: 0.0, 7: 0.5})
    assert result["regions"] == {"base": 5, "novel": 2, "all": 7, "empty": 0}


def test_names_serve_as_well_as_ids() -> None:
    result = top1_by_split(["red star", "moon"], ["red star", "star"], {"all": ["red star", "moon"]})
    assert result["top1_all"] == 0.5
    assert result["per_class"] == {"moon": 0.0, "red star": 1.0}


def test_no_regions_give_none() -> None:
    result = top1_by_split(np.zeros(0, dtype=int), np.zeros(0, dtype=int), {"all": {1}})
    assert (result["top1_all"], result["per_class"]) == (None, {})


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="do not pair up"):
        top1_by_split([1, 2], [1], {"all": {1}})
