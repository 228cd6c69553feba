"""A real MLflow server goes away and comes back: stages go on, and nothing of their records is lost or doubled."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from regionclip.cli_tracking import add_tracking_commands
from regionclip.errors import InputError
from regionclip.tracking import tracker as tracker_module
from regionclip.tracking.record import FOLDER
from regionclip.tracking.store import connect
from regionclip.tracking.tracker import track

NOBODY = "http://127.0.0.1:9"  # no server listens there


def command(*arguments: str) -> None:
    """Run a command as ``regionclip`` does."""
    parser = argparse.ArgumentParser()
    add_tracking_commands(parser.add_subparsers())
    chosen = parser.parse_args(arguments)
    chosen.run(chosen)


def find(client: MlflowClient, stage: str) -> list[Run]:
    """The runs of a stage, the first one first."""
    experiment = client.get_experiment_by_name("regionclip").experiment_id
    return client.search_runs([experiment], f"tags.`dvc.stage` = '{stage}'", order_by=["attributes.start_time ASC"])


def losses(client: MlflowClient, run: Run) -> list[tuple[int, float]]:
    """Steps and losses of a run."""
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss")]


def text(client: MlflowClient, run: Run, file: str, folder: Path) -> str:
    """Text of an artifact."""
    return Path(client.download_artifacts(run.info.run_id, file, str(folder))).read_text()


def test_server_that_comes_back_gets_everything_in_order(server, tmp_path, monkeypatch, caplog):
    """Away for the middle of a stage: afterwards the run has each record once, the file as it was when it was logged,
    its model's run below it, and nothing is left behind."""
    monkeypatch.setattr(tracker_module, "RETRY", 0.0)
    Path("report.json").write_text("first")
    with caplog.at_level(logging.WARNING, "regionclip"), track("there-again", {"a": 1}, {}, profile="demo") as tracker:
        tracker.log_metrics({"loss": 3.0}, step=1)
        server.stop()
        tracker.log_metrics({"loss": 2.0}, step=2)
        tracker.log_artifact("report.json")
        Path("report.json").write_text("second")
        with tracker.model_run("clip") as model:
            model.log_metrics({"loss": 0.5}, step=1)
        assert len(list(FOLDER.glob("*.json"))) == 2, "what waits survives a kill of the stage"
        server.start()
        tracker.log_metrics({"loss": 1.0}, step=3)
        assert not any(FOLDER.iterdir())
    client = connect(server.uri)
    run, child = find(client, "there-again")
    assert losses(client, run) == [(1, 3.0), (2, 2.0), (3, 1.0)] and run.info.status == "FINISHED"
    assert text(client, run, "report.json", tmp_path) == "first"
    assert child.data.tags["mlflow.parentRunId"] == run.info.run_id and losses(client, child) == [(1, 0.5)]
    assert child.info.status == "FINISHED" and model.run_id == child.info.run_id
    assert caplog.text.count("does not take") == 1 and caplog.text.count("again; all that waited") == 1


def test_server_that_is_away_is_not_asked_at_every_step(server, monkeypatch):
    """While it is away a stage asks at the first failure and at the end, not with each of its records."""
    asked = []
    monkeypatch.setattr(tracker_module, "require_answer", lambda uri: asked.append(uri) or _refuse())
    with track("patient", {}, {}, profile="demo") as tracker:
        for step in range(50):
            tracker.log_metrics({"loss": 1.0}, step=step)
    assert len(asked) == 2


def test_server_that_is_there_is_asked_once(server, monkeypatch):
    """Whether it is there is a request of its own; a stage whose records arrive does not make it again."""
    asked = []
    monkeypatch.setattr(tracker_module, "require_answer", asked.append)
    with track("heard", {}, {}, profile="demo") as tracker:
        for step in range(5):
            tracker.log_metrics({"loss": 1.0}, step=step)
    assert asked == [server.uri]


def _refuse() -> None:
    raise ConnectionError("nobody is there")


def test_sync_delivers_later_and_only_once(server, tmp_path, monkeypatch, capsys):
    """Away for the whole stage: `mlflow-sync` says so while nobody answers, delivers later, changes nothing when a
    kill made it deliver the same file twice, and removes what it delivered."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    Path("report.json").write_text("first")
    with track("later", {"a": 1}, {}, profile="demo", digest="d" * 64) as tracker:
        tracker.log_metrics({"loss": 2.0}, step=1)
        tracker.log_artifact("report.json")
        with tracker.model_run("clip") as model:
            model.log_metrics({"loss": 0.5}, step=1)
    Path("report.json").unlink()
    with pytest.raises(InputError, match=rf"^{NOBODY}: .*MLFLOW_TRACKING_URI"):
        command("mlflow-sync")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    command("mlflow-sync", "--dry-run")
    assert capsys.readouterr().out.count(": waits") == 2
    kept = {file: file.read_text() for file in FOLDER.glob("*.json")}
    assert len(kept) == 2
    client = connect(server.uri)
    assert not find(client, "later"), "a dry run sends nothing"
    _deliver_twice(kept, capsys)
    run, child = find(client, "later")
    assert run.info.status == "FINISHED" and losses(client, run) == [(1, 2.0)] and run.data.params == {"a": "1"}
    assert text(client, run, "report.json", tmp_path) == "first"
    assert child.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert run.info.start_time == min(json.loads(content)["since"] for content in kept.values())
    assert not any(FOLDER.iterdir())
    command("mlflow-sync")
    assert "holds nothing" in capsys.readouterr().out


def _deliver_twice(kept: dict[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    copies = {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    for _ in range(2):
        for path, content in copies.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        command("mlflow-sync")
        assert capsys.readouterr().out.count(": delivered") == len(kept)


KILLED = """
import time
from regionclip.tracking.tracker import track
with track("killed", {}, {}, profile="demo") as tracker:
    tracker.log_metrics({"loss": 2.0}, step=1)
    print("ready", flush=True)
    time.sleep(600)
"""


def _kill_when_ready() -> None:
    stage = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    try:
        assert stage.stdout.readline() == "ready\n"
    finally:
        stage.kill()
        stage.wait()


def test_sync_closes_a_stage_that_was_killed_and_leaves_one_that_runs(server, monkeypatch, capsys):
    """The record of a stage that was killed while MLflow was away ends as KILLED; that of a living stage is its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    _kill_when_ready()
    with track("alive", {}, {}, profile="demo"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        command("mlflow-sync")
        output = capsys.readouterr().out
        assert "2 records of killed" in output and output.count(": delivered") == 1
        assert "1 records of alive" in output and output.count(": in use") == 1
    client = connect(server.uri)
    (killed,) = find(client, "killed")
    assert killed.info.status == "KILLED" and killed.data.tags["closed_by"] == "regionclip mlflow-sync"
    assert losses(client, killed) == [(1, 2.0)]
    command("mlflow-sync")
    (run,) = find(client, "alive")
    assert run.info.status == "FINISHED" and not any(FOLDER.iterdir())


def test_record_that_mlflow_refuses_holds_nothing_up(server, caplog):
    """A metric with a name beyond MLflow's limit is left out, and said so in the log and on the run."""
    with caplog.at_level(logging.WARNING, "regionclip"), track("refused", {}, {}, profile="demo") as tracker:
        tracker.log_metrics({"x" * 300: 1.0})
        tracker.log_metrics({"loss": 1.0}, step=1)
    client = connect(server.uri)
    (run,) = find(client, "refused")
    assert run.info.status == "FINISHED" and losses(client, run) == [(1, 1.0)]
    assert run.data.tags["refused"].startswith("1 records") and "refuses a record of refused" in caplog.text
    assert not FOLDER.exists()


def test_full_disk_beside_an_absent_server_stops_no_stage(server, caplog, monkeypatch):
    """Where the record can neither be delivered nor kept, the stage ends well and says so."""
    monkeypatch.setattr(tracker_module, "require_answer", lambda uri: _refuse())
    FOLDER.parent.mkdir()
    FOLDER.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "regionclip"), track("full", {}, {}, profile="demo"):
        pass
    assert "cannot be kept" in caplog.text
