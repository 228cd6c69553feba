"""The gate: real Great Expectations checkpoints, a plain JSON report, a failure that says where and what to do."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regionclip.contracts.gate import counts_of, gate, run_checks
from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.errors import DataCheckFailed
from regionclip.files import read_json


def _check(values: list[float], name: str = "things") -> Check:
    table = pd.DataFrame({"file": "a.json", "id": np.arange(len(values)), "x": values})
    expectations = [
        Expect("no row", "add one").rows(),
        Expect("too large", "make it smaller", "size").between("x", most=1),
        Expect("not a number", "count again").some("x"),
    ]
    return Check(name, table, ("file", "id"), expectations)


def test_a_pass_is_reported_in_the_order_of_the_suite(tmp_path: Path) -> None:
    results = gate("stage", [_check([0.5, 1.0]), _check([0.0], "others")], tmp_path)
    report = read_json(tmp_path / "checks/stage.json")
    assert report == {"success": True, "expectations": 6, "failed": 0, "warnings": 0, "results": results}
    assert [result["problem"] for result in results] == ["no row", "too large", "not a number"] * 2
    assert [result["observed"] for result in results[::3]] == [2, 1]


def test_a_failure_names_file_record_key_and_mend_and_leaves_the_report(tmp_path: Path) -> None:
    with pytest.raises(DataCheckFailed) as caught:
        gate("stage", [_check([0.5, 3.0, float("nan"), 4.0])], tmp_path)
    assert str(caught.value) == (
        "a.json, record id 1, x 3.0, key 'size': things: too large (2 records); 1 more expectations failed. "
        f"To mend: make it smaller; all findings are in {tmp_path / 'checks/stage.json'}."
    )
    assert caught.value.exit_code == 3
    report = read_json(tmp_path / "checks/stage.json")
    assert (report["success"], report["failed"]) == (False, 2)
    assert report["results"][1]["records"] == [
        {"file": "a.json", "id": 1, "x": 3.0},
        {"file": "a.json", "id": 3, "x": 4.0},
    ]
    assert report["results"][1]["unexpected"] == 2


def test_a_warning_is_counted_and_shown_and_stops_nothing(tmp_path: Path) -> None:
    check = _check([0.5, 3.0])
    check.expectations[1].severity = WARNING
    results = gate("stage", [check], tmp_path)
    report = read_json(tmp_path / "checks/stage.json")
    assert (report["success"], report["failed"], report["warnings"]) == (True, 0, 1)
    assert [result["severity"] for result in results] == ["error", "warning", "error"]
    assert counts_of(results) == {"expectations": 3, "warnings": 1}
    assert "too large" in (tmp_path / "data_docs/stage/index.html").read_text()


def test_the_verdict_is_there_after_a_pass_only_and_always_the_same(tmp_path: Path) -> None:
    """Stages behind a gate depend on it, and must not run again because the gate has looked at more."""
    verdict = tmp_path / "gates/stage.json"
    gate("stage", [_check([0.5])], tmp_path, verdict=verdict)
    passed = verdict.read_bytes()
    warned = _check([0.5, 3.0], "others")
    warned.expectations[1].severity = WARNING
    gate("stage", [_check([0.0, 1.0]), warned], tmp_path, about={"boxes": 3}, verdict=verdict)
    assert verdict.read_bytes() == passed and read_json(verdict) == {"passed": True}
    with pytest.raises(DataCheckFailed):
        gate("stage", [_check([3.0])], tmp_path, verdict=verdict)
    assert not verdict.exists(), "an earlier pass is none of what was refused"


def test_a_gate_that_ends_in_an_error_leaves_no_verdict(tmp_path: Path) -> None:
    check, verdict = _check([0.5]), tmp_path / "gates/stage.json"
    gate("stage", [_check([0.5])], tmp_path, verdict=verdict)
    with pytest.raises(RuntimeError):
        gate("stage", [check._replace(table=check.table.drop(columns="x"))], tmp_path, verdict=verdict)
    assert not verdict.exists()


class _Recorder:
    """Stands in for the stage's MLflow run."""

    def __init__(self) -> None:
        self.artifacts: list[str] = []
        self.metrics: dict[str, float] = {}

    def log_artifact(self, path: Path) -> None:
        assert path.exists()
        self.artifacts.append(path.name)

    def log_metrics(self, values: dict[str, float]) -> None:
        self.metrics |= values


@pytest.mark.parametrize(("values", "metrics"), [([0.5], {}), ([3.0], {"expectations": 3, "failed": 1, "warnings": 0})])
def test_report_and_data_docs_go_to_the_run_whatever_is_found(
    tmp_path: Path, values: list[float], metrics: dict[str, float]
) -> None:
    recorder = _Recorder()
    with contextlib.suppress(DataCheckFailed):
        gate("stage", [_check(values)], tmp_path, tracker=recorder)
    assert recorder.artifacts == ["stage.json", "stage"] and recorder.metrics == metrics


def test_only_a_sample_of_the_records_is_kept() -> None:
    result = run_checks([_check([2.0] * 50)])[1]
    assert result["unexpected"] == 50 and len(result["records"]) == 5


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # A flow that ran in this process before has left Prefect's.
    monkeypatch.setattr(logging.root, "handlers", [])
    gate("stage", [_check([0.5])], tmp_path)
    assert capfd.readouterr() == ("", "")


def test_an_expectation_that_cannot_be_evaluated_is_an_error() -> None:
    check = _check([0.5])
    with pytest.raises(RuntimeError, match="could not be evaluated"):
        run_checks([check._replace(table=check.table.drop(columns="x"))])
