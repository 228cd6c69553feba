"""Outcomes follow from the states of the tasks and from what is recorded before and after."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.schemas.objects import State, StateType
from prefect.states import Completed, Crashed, Failed, Pending

from flows.dvc_lock import Recorded
from flows.run_report import counts, problems, stage_records
from flows.stage_runs import StageFailed, StageRun
from regionclip.tracking.pipeline_run import StageRecord

NONE, ONE, SAME_LOCK = (
    Recorded(None, None, None),
    Recorded({"cmd": "x"}, "run1", "d"),
    Recorded({"cmd": "x"}, "run2", "d"),
)


@pytest.mark.parametrize(
    ("before", "after", "restored", "force", "outcome"),
    [
        (NONE, ONE, False, False, "ran"),
        (ONE, SAME_LOCK, False, False, "ran"),  # the same bytes, made anew by another run
        (ONE, ONE, False, False, "cached"),
        (NONE, ONE, True, False, "cached"),  # from DVC's run cache
        (ONE, ONE, False, True, "ran"),  # forced, and it writes no sidecar
    ],
)
def test_a_stage_that_ended_well(before: Recorded, after: Recorded, restored: bool, force: bool, outcome: str) -> None:
    state = Completed(data=StageRun(2.5, restored))
    [record] = stage_records({"a": state}, {"a": before}, {"a": after}, force=force)
    assert record == StageRecord("a", outcome, after.run_id, 2.5 if outcome == "ran" else None)


def test_stages_that_did_not() -> None:
    states: dict[str, State] = {
        "a": Failed(data=StageFailed("a", 3, 7.0)),
        "b": Crashed(data=RuntimeError("no server")),
        "c": Pending(name="NotReady"),
        "d": State(type=StateType.CANCELLED),
        "e": Failed(data=StageFailed("e", None, 1.0)),
    }
    recorded = dict.fromkeys(states, ONE)
    found = stage_records(states, recorded, recorded, force=True)
    assert [(one.name, one.outcome, one.run_id, one.seconds) for one in found] == [
        ("a", "failed", None, 7.0),
        ("b", "failed", None, None),
        ("c", "not run", None, None),
        ("d", "not run", None, None),
        ("e", "failed", None, 1.0),
    ]
    assert counts(found) == "3 failed, 2 not run"
    assert problems(states) == [
        "a failed with exit code 3 (the data check refused its input)",
        "b failed (no server)",
        "e failed in DVC",
        "not run: c, d",
    ]


def test_flows_never_import_torch() -> None:
    modules = [f"flows.{path.stem}" for path in sorted((Path(__file__).parents[2] / "flows").glob("*.py"))]
    program = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False).returncode == 0
