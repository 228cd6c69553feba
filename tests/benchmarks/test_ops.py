"""The benchmark of overheads: its chain is one, every way makes all of it, and the page says whether the bar holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ops
from benchmarks.services import environment_of
from regionclip.stages.graph import read_graph


def measured(flow: float) -> dict[str, Any]:
    """Three rounds of four stages, of which the last was disturbed."""
    made = {"plain": [2.0, 3.0, 1.0], "singles": [6.0, 6.0, 6.0], "flow": [flow, flow + 1.0, 90.0]}
    idle = {"plain": [1.0, 1.0, 2.0], "singles": [4.0, 4.0, 4.0], "flow": [7.0, 8.0, 9.0]}
    starts = {"mlflow": {"first": [9.0], "again": [5.0]}, "prefect": {"first": [11.0], "again": [8.0]}}
    return {"stages": 4, "runs": {"made": made, "nothing to do": idle}, "starts": starts, "handovers": [0.5, 1.5, 9.0]}


def test_overhead_is_the_median_of_pairs() -> None:
    """(9.2 - 2) / 4 and (10.2 - 3) / 4 are 1.8; the pair that was disturbed does not count."""
    found = ops.summarise(measured(9.2))
    assert found["overhead a stage"] == pytest.approx(1.8)
    assert found["overhead a stage over single items"] == pytest.approx(1.05)
    assert found["made, flow"] == pytest.approx(10.2) and found["nothing to do, flow"] == 8.0
    assert found["prefect, first"] == 11.0 and found["mlflow, again"] == 5.0


@pytest.mark.parametrize(("flow", "number", "holds"), [(9.2, "1.80", "yes"), (10.4, "2.10", "no")])
def test_the_page_says_whether_the_bar_holds(flow: float, number: str, holds: str) -> None:
    page = ops.page(measured(flow))
    assert f"| flow over `dvc repro`, a stage | {number} | < 2 | {holds} |" in page
    assert "| start of the Prefect server, on nothing | 11.00 | | |" in page
    assert "| a slot from one stage's end to the start of the next | 1.50 | < 2 | yes |" in page
    assert "which 4 stages that need nothing else share" in page
    assert "3 rounds" in page and "A chain of 4 stages" in page


def test_a_chain_is_made_by_dvc_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    chain = ops.make_chain(tmp_path / "chain", 2)
    ops.run_arm("singles", chain, 2, {})
    lock = (chain / "dvc.lock").read_text()
    ops.run_arm("plain", chain, 2, {})
    assert (chain / "dvc.lock").read_text() == lock and not json.loads(_status(chain))


def _status(folder: Path) -> str:
    command = ["dvc", "status", "--json"]
    return subprocess.run(command, cwd=folder, env=environment_of({}), capture_output=True, text=True).stdout


def test_stages_of_one_slot_that_overlap_are_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "run", lambda *_: None)
    for name, times in (("s1", "1.0\n3.0\n"), ("s2", "6.0\n7.0\n"), ("s3", "3.5\n5.0\n")):
        (tmp_path / f"{name}.txt").write_text(times)
    assert ops.hand_on(tmp_path, {}) == [0.5, 1.0]
    (tmp_path / "s4.txt").write_text("2.0\n2.5\n")
    with pytest.raises(RuntimeError, match="at the same time"):
        ops.hand_on(tmp_path, {})


def test_a_fan_shares_a_slot_and_nothing_else(tmp_path: Path) -> None:
    fan = ops.make_fan(tmp_path / "fan", 2, 0)
    graph = read_graph(fan)
    assert [(stage.limit, stage.needs) for stage in graph.values()] == [("one", ())] * 2


def test_a_way_that_leaves_a_stage_out_is_no_measurement(tmp_path: Path) -> None:
    chain = ops.make_chain(tmp_path / "chain", 2)
    with pytest.raises(RuntimeError, match="did not make all stages"):
        ops.run_arm("plain", chain, 3, {})
