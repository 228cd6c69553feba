"""A stage's task: exit code recovered, tried again only where that helps, stopped so that it can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows import commands
from flows.stage_runs import RunOptions, StageFailed, StageRun, run_stage
from regionclip.stages.graph import Stage

STAGE = Stage("a", "python step.py", (), (), ("a.txt",))


def fails(code: int) -> tuple[int, list[str]]:
    return 255, [f"ERROR: failed to reproduce 'a': failed to run: python step.py, exited with {code}"]


def attempts(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, list[str]]) -> tuple[int, Any]:
    """Run the task against answers in the place of DVC's; return how often it asked, and the task's result."""
    left, results = list(answers), []

    def answer(*_: Any, **__: Any) -> tuple[int, list[str]]:
        return left.pop(0)

    @flow
    def one() -> None:
        state = run_stage.with_options(retry_delay_seconds=0)(STAGE, RunOptions(Path()), return_state=True)
        results.append(state.result(raise_on_failure=False))

    monkeypatch.setattr(commands, "run", answer)
    one()
    return len(answers) - len(left), results[0]


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("code", "tries"), [(2, 1), (3, 1), (5, 1), (4, 4), (1, 4), (-9, 4)])
def test_wrong_input_and_failed_checks_are_final(monkeypatch: pytest.MonkeyPatch, code: int, tries: int) -> None:
    asked, error = attempts(monkeypatch, *[fails(code)] * 5)
    assert asked == tries and isinstance(error, StageFailed) and error.exit_code == code


@pytest.mark.usefixtures("prefect_server")
def test_a_fault_that_passes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, run = attempts(monkeypatch, (255, ["ERROR: Unable to acquire lock"]), fails(4), (0, ["done"]))
    assert asked == 3 and isinstance(run, StageRun) and not run.restored


@pytest.mark.usefixtures("prefect_server")
def test_nothing_is_tried_again_while_the_run_is_being_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.stopping, "is_set", lambda: True)
    asked, _ = attempts(monkeypatch, *[fails(4)] * 5)
    assert asked == 1


def test_reasons_in_words() -> None:
    assert str(StageFailed("a", 3, 1.0)) == "a failed with exit code 3 (the data check refused its input)"
    assert str(StageFailed("a", None, 1.0, "no lock")) == "a failed in DVC: no lock"
