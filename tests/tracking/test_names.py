"""Names and values as MLflow takes them."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from regionclip.tracking.names import flat_metrics, flat_params, metric_name


def test_metrics_are_flattened():
    """Nested names get slashes, None becomes NaN, text and lists stay out."""
    flat = flat_metrics({"a": {"b": 1, "c": None}, "ok": True, "name": "x", "list": [1]})
    assert flat.keys() == {"a/b", "a/c", "ok"} and flat["a/b"] == 1 and flat["ok"] == 1 and math.isnan(flat["a/c"])


def test_params_that_differ_late_stay_different():
    """Two long values that differ at the end only are cut to different texts."""
    one, two = (flat_params({"x": "a" * 700 + end})["x"] for end in "bc")
    assert one != two and len(one) == len(two) == 500
    assert flat_params({"a": {"b": None, "c": [1, "d"]}}) == {"a.b": "null", "a.c": '[1, "d"]'}


@given(st.text(max_size=30))
def test_any_name_is_made_valid(text):
    """MLflow's own check takes every name that is made."""
    assert _validate_metric_name(f"x{metric_name(text)}") is None
