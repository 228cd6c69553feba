"""Top-1 and top-5 of regions: hand-computed fractions by group and by class, and what a result says of itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.errors import InputError
from regionclip.evaluation.region_classification import classify_regions
from regionclip.text.prompts import REGIONCLIP_81, TEMPLATE_SETS

RECIPE = ("roi_align", TEMPLATE_SETS["photo"])
NAMES = [f"c{number}" for number in range(7)]


def test_hand_computed_top1() -> None:
    """Class 1: 3 of 4; class 2: 0 of 1; class 6: 1 of 2. Base 3/5 over regions, (3/4 + 0) / 2 over classes."""
    labels, predictions = [1, 1, 1, 1, 2, 6, 6], [1, 1, 1, 6, 1, 6, 2]
    groups = {"base": {"c1", "c2"}, "novel": {"c6"}, "all": set(NAMES), "empty": {"c0"}}
    result = classify_regions(np.eye(7)[predictions], labels, NAMES, groups, *RECIPE)
    assert result["top1_base"] == pytest.approx(3 / 5)
    assert result["class_mean_top1_base"] == pytest.approx(3 / 8)
    assert result["top1_novel"] == result["class_mean_top1_novel"] == pytest.approx(1 / 2)
    assert result["top1_all"] == pytest.approx(4 / 7)
    assert result["class_mean_top1_all"] == pytest.approx((3 / 4 + 0 + 1 / 2) / 3)
    assert (result["top1_empty"], result["class_mean_top1_empty"]) == (None, None)
    assert result["per_class"] == pytest.approx({"c1": 0.75, "c2": 0.0, "c6": 0.5})
    assert result["regions"] == {"base": 5, "novel": 2, "all": 7, "empty": 0}


def scores(order: list[int]) -> list[float]:
    """Scores of seven classes that rank them in ``order``, best first."""
    return [-float(order.index(label)) if label in order else -9.0 - label for label in range(7)]


def test_hand_computed_top1_and_top5() -> None:
    """Class 0: first, fifth and sixth of its regions' lists; class 1: second. Base is 0, novel is 1.

    Top-1: 1/3 and 0/1, top-5: 2/3 and 1/1; over regions 1/4 and 3/4, over classes 1/6 and 5/6."""
    table = [scores([0, 1]), scores([1, 2, 3, 4, 0]), scores([1, 2, 3, 4, 5, 0]), scores([0, 1])]
    result = classify_regions(table, [0, 0, 0, 1], NAMES, {"base": {"c0"}, "novel": {"c1"}, "all": set(NAMES)}, *RECIPE)
    expected = {
        "top1_base": 1 / 3, "top1_novel": 0, "top1_all": 1 / 4, "class_mean_top1_all": 1 / 6,
        "top5_base": 2 / 3, "top5_novel": 1, "top5_all": 3 / 4, "class_mean_top5_all": 5 / 6,
    }  # fmt: skip
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    assert result["per_class"] == pytest.approx({"c0": 1 / 3, "c1": 0.0})
    assert result["regions"] == {"base": 3, "novel": 1, "all": 4}


def test_a_result_says_how_its_scores_came_about() -> None:
    result = classify_regions(np.zeros((0, 7)), [], NAMES, {"all": NAMES}, "crop", REGIONCLIP_81)
    wanted = {"view": "crop", "templates": "'regionclip_81'", "background": "none", "classes": 7}
    assert result["recipe"] == wanted
    assert "cropped regions over 7 classes" in result["protocol"] and "'regionclip_81'" in result["protocol"]
    assert (result["top1_all"], result["top5_all"], result["class_mean_top5_all"]) == (None, None, None)
    assert result["per_class"] == {}
    other = classify_regions(np.zeros((0, 7)), [], NAMES, {"all": NAMES}, "crop", ["my {}", "your {}"])
    assert other["recipe"]["templates"] == "2 templates, the first 'my {}'"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.lists(st.integers(0, 3), min_size=7, max_size=7)), min_size=1))
def test_ranks_are_those_of_a_stable_sort(regions: list[tuple[int, list[int]]]) -> None:
    """With few values there are many ties: equal scores rank by class index, so that top-1 is NumPy's argmax."""
    labels, table = [label for label, _ in regions], np.array([row for _, row in regions])
    result = classify_regions(table, labels, NAMES, {"all": NAMES}, *RECIPE)
    order = np.argsort(-table, axis=1, kind="stable")
    for most in (1, 5):
        hits = [label in row[:most] for label, row in zip(labels, order, strict=True)]
        assert result[f"top{most}_all"] == pytest.approx(np.mean(hits))


def test_probabilities_rank_as_their_logits() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(30, 7)), rng.integers(0, 7, 30)
    results = [
        classify_regions(table, labels, NAMES, {"all": NAMES}, *RECIPE)
        for table in (logits, np.exp(logits) / (1 + np.exp(logits).sum(axis=1, keepdims=True)))
    ]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("table", "labels", "message"),
    [
        (np.zeros((2, 6)), [0, 1], "do not fit 2 labels and 7 names"),
        (np.zeros((3, 7)), [0, 1], "do not fit 2 labels"),
        (np.zeros((2, 7)), [0, 7], "labels 0 to 7 do not fit"),
        (np.zeros((2, 7)), [-1, 0], "labels -1 to 0 do not fit"),
        (np.array([[0.0] * 7, [0.0] * 6 + [np.nan]]), [0, 1], "record region 1: a score is not finite"),
    ],
)
def test_scores_that_do_not_fit_are_refused(table: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        classify_regions(table, labels, NAMES, {"all": NAMES}, *RECIPE)
