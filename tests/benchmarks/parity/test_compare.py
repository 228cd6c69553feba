"""The comparison fails where it should: each kind of key, just inside and just outside its tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.parity.compare import compare

DETECTIONS = {
    "test_boxesA": np.array([[0, 0, 10, 10], [20, 20, 40, 100]], np.float32),
    "test_scoresA": np.array([0.9, 0.5], np.float32),
    "test_classesA": np.array([3, 1]),
}


def passed(actual: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> bool:
    return all(verdict.passed for verdict in compare(actual, reference))


def test_detections_are_a_set() -> None:
    """Their order is free; a row with another box, class or score, one too many and one too few are not."""
    turned = {key: value[::-1] for key, value in DETECTIONS.items()}
    assert passed(turned, DETECTIONS)
    for key, change in (("boxes", 0.02), ("scores", 2e-4), ("classes", 1)):
        wrong = {name: value.copy() for name, value in DETECTIONS.items()}
        wrong[f"test_{key}A"][-1:] += np.array(change, wrong[f"test_{key}A"].dtype)
        assert not passed(wrong, DETECTIONS), key
    assert not passed({key: value[:1] for key, value in DETECTIONS.items()}, DETECTIONS)
    longer = {key: np.concatenate([value, value[:1] + 1]) for key, value in DETECTIONS.items()}
    assert not passed(longer, DETECTIONS)


@pytest.mark.parametrize(
    ("key", "reference", "inside", "outside"),
    [
        ("feats", [100.0, 0.0], [100.0, 0.009], [100.0, 0.011]),
        ("res4_summary", [0.0, 2.0, 50.0, 900.0], [1e-4, 2.0, 50.0, 900.05], [3e-4, 2.0, 50.0, 900.0]),
        ("loss_cls", 3.0, 3.0002, 3.0004),
        ("keep", [True, False], [True, False], [True, True]),
        ("settings", "nms 0.7", "nms 0.7", "nms 0.9"),
        ("pre_grad|x", [1.0, 0.5], [1.0, 0.5009], [1.0, 0.502]),
    ],
)
def test_each_kind_has_its_tolerance(key: str, reference: object, inside: object, outside: object) -> None:
    wanted = {key: np.array(reference)}
    assert passed({key: np.array(inside)}, wanted)
    assert not passed({key: np.array(outside)}, wanted)


def test_gradient_norms_are_relative_and_leave_the_key_bias_out() -> None:
    names = np.array(["a.weight", "attnpool.k_proj.bias"])
    reference = {"ft_grad_names": names, "ft_grad_norms": np.array([1e-3, 1e-8])}
    assert passed(reference | {"ft_grad_norms": np.array([1.0009e-3, 5e-8])}, reference)
    assert not passed(reference | {"ft_grad_norms": np.array([1.002e-3, 1e-8])}, reference)


def test_missing_keys_other_shapes_and_not_a_number_fail() -> None:
    reference = {"feats": np.ones((2, 2), np.float32)}
    assert not passed({}, reference)
    assert not passed({"feats": np.ones(4, np.float32)}, reference)
    assert not passed({"feats": np.ones((2, 2), np.int64)}, reference)
    assert not passed({"feats": np.full((2, 2), np.nan, np.float32)}, reference)
    assert passed({"feats": np.ones((2, 2), np.float32), "more": np.zeros(1)}, reference)
