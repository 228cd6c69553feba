"""Stages that are killed at random instants end, when they are run again, with the numbers of a run without kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kills import Workspace, differences, kill_often, sound, summarise
from regionclip.files import read_json

# Some stages, once or twice; `python -m benchmarks.kills` kills all of them often.
STAGES = ("data", "teacher", "pseudo_labels", "evaluate@coco")
AROUND = 4.0  # seconds of a stage that its record does not count: DVC's, and those of imports


@pytest.mark.slow
def test_killed_stages_end_with_the_same_numbers(copy: Path) -> None:
    """DVC too is killed, while it hashes or writes dvc.lock; at the end nothing half written lies about."""
    records = {stage: copy / f"artifacts/runs/{stage.replace('@', '_')}.json" for stage in STAGES}
    place = Workspace(copy, {stage: AROUND + read_json(record)["seconds"] for stage, record in records.items()})
    place.remember()
    summary = summarise(place, kill_often(place, 2 * len(STAGES), seed=0))
    assert summary["kills of the stage least often killed"] == 2
    assert sound(summary), {key: value for key, value in summary.items() if key != "records"}


def test_other_numbers_are_told() -> None:
    """Rounding is not; a number more or less, text and truth values are."""
    wanted = {"a": 0.5, "b": 1, "c": "x", "d": None, "e": float("nan")}
    assert differences(wanted | {"a": 0.5 + 1e-9}, wanted) == []
    assert differences(wanted | {"a": 0.51, "b": 2, "c": "y", "f": 1}, wanted) == ["a", "b", "c", "f"]
