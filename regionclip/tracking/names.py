"""Nested params and metrics as the flat names and short values that MLflow takes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PARAM_LENGTH = 500  # the UI shows no more; MLflow itself cuts at 6000 without a trace


def flat_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Flatten metrics: ``{"coco": {"ap@50": 0.5}}`` becomes ``{"coco/ap_50": 0.5}``.

    None, a metric that is not defined, becomes NaN. Text and lists are no metrics and are left to the JSON artifact.
    """
    found = {}
    for path, value in _leaves(values):
        if value is None or isinstance(value, bool | int | float):
            found[metric_name("/".join(path))] = float("nan") if value is None else float(value)
    return found


def metric_name(name: str) -> str:
    """Make a name valid for MLflow, which refuses ``@`` and the like, empty parts and dots alone."""
    parts = re.sub(r"[^\w.\-/: ]", "_", name).split("/")
    return "/".join(part for part in parts if part.strip("."))


def flat_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Flatten params: ``{"rpn": {"schedule": {"milestones": [3, 4]}}}`` becomes
    ``{"rpn.schedule.milestones": "[3, 4]"}``.

    A long value is cut, and ends with a hash of the whole of it, so that runs that differ never look equal.
    """
    return {metric_name(".".join(path)): _short(value) for path, value in _leaves(values)}


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= _PARAM_LENGTH:
        return text
    mark = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return text[: _PARAM_LENGTH - len(mark)] + mark
