"""Stages are recorded in a real MLflow store, and go on without it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from regionclip.errors import Interrupted
from regionclip.files import read_json
from regionclip.tracking.store import tracking_uri
from regionclip.tracking.tracker import track

PARAMS = {"rpn": {"schedule": {"milestones": [3, 4], "lr": 0.1}, "names": "x" * 900}, "seed": 0}


def runs(client: MlflowClient) -> list[Run]:
    """All runs of the one experiment, newest first."""
    return client.search_runs([client.get_experiment_by_name("regionclip").experiment_id])


def test_run_has_params_tags_inputs_metrics_and_artifacts(client, tmp_path):
    """What a stage logs is in the store, under valid names, with artifacts in mlruns/artifacts."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    inputs = {"data": f"{'a' * 32}.dir"}
    with track("finetune@coco", PARAMS, inputs, profile="demo", digest="d" * 64) as tracker:
        tracker.log_metrics({"coco": {"ap@50": 0.5, "undefined": None, "name": "x"}}, step=3)
        tracker.log_metrics({"loss": 2.0}, step=1)
        tracker.log_metrics({"loss": 1.0}, step=2)
        tracker.log_artifact("data/a.txt")
        tracker.log_artifact("data")
    (run,) = runs(client)
    assert (run.info.run_id, run.info.run_name, run.info.status) == (tracker.run_id, "finetune@coco", "FINISHED")
    assert run.data.params["rpn.schedule.milestones"] == "[3, 4]" and run.data.params["rpn.schedule.lr"] == "0.1"
    assert len(run.data.params["rpn.names"]) == 500 and "sha256:" in run.data.params["rpn.names"]
    assert (
        run.data.metrics["coco/ap_50"] == 0.5
        and run.data.metrics["coco/undefined"] != run.data.metrics["coco/undefined"]
    )
    assert [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "loss")] == [(1, 2.0), (2, 1.0)]
    tags = {"dvc.stage": "finetune@coco", "profile": "demo", "git.sha": "none", "device": run.data.tags["device"]}
    assert run.data.tags.items() >= {**tags, "stage.digest": "d" * 64}.items()
    (dataset,) = [item.dataset for item in run.inputs.dataset_inputs]
    assert (dataset.name, dataset.digest) == ("data", inputs["data"])
    assert json.loads(dataset.source) == {"uri": "data"}
    files = {
        path.relative_to(tmp_path / "mlruns/artifacts" / tracker.run_id / "artifacts").as_posix()
        for path in (tmp_path / "mlruns/artifacts").rglob("*.*")
    }
    assert files == {"a.txt", "data/a.txt"}
    assert not (tmp_path / "mlruns/undelivered").exists()


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError, "FAILED"), (Interrupted, "KILLED"), (KeyboardInterrupt, "KILLED")]
)
def test_exceptions_close_the_run_and_go_on(client, error, status):
    """A stage that fails is FAILED, one that is stopped KILLED, and the exception leaves the block."""
    with pytest.raises(error), track("rpn", {}, {}, profile="demo"):
        raise error("stopped")
    assert [run.info.status for run in runs(client)] == [status]


def test_parent_run(client, monkeypatch):
    """The run named by the environment is the parent, in the same experiment."""
    with track("pipeline", {}, {}, profile="demo") as parent:
        monkeypatch.setenv("REGIONCLIP_PARENT_RUN_ID", parent.run_id)
        with track("rpn", {}, {}, profile="demo") as child:
            pass
    found, other = client.get_run(child.run_id), client.get_run(parent.run_id)
    assert (
        found.data.tags["mlflow.parentRunId"] == parent.run_id and found.info.experiment_id == other.info.experiment_id
    )


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "nonsense://x"])
def test_stage_goes_on_without_mlflow(client, tmp_path, monkeypatch, caplog, uri):
    """A server that does not answer gives one warning, and the whole record is kept in a file."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        caplog.at_level(logging.WARNING, "regionclip"),
        track("finetune@coco", {"a": 1}, {}, profile="demo", digest="d" * 64) as tracker,
    ):
        tracker.log_metrics({"loss": 2.0}, step=1)
    assert tracker.run_id is None and caplog.text.count("MLflow does not take") == 1
    (file,) = (tmp_path / "mlruns/undelivered").iterdir()
    kept = read_json(file)
    assert file.name.startswith("finetune_coco-") and kept["stage"] == "finetune@coco"
    assert kept["start"]["params"] == {"a": "1"} and kept["end"]["status"] == "FINISHED"
    assert [(part["step"], part["values"]) for part in kept["metrics"]] == [(1, {"loss": 2.0})]


PROGRAM = """
from regionclip.tracking.tracker import track
with track("rpn", {}, {}, profile="demo") as tracker:
    for step in range(40):
        tracker.log_metrics({"loss": step}, step)
"""


def test_two_processes_share_the_store(client):
    """Two processes that log at the same time, and both make the experiment, lose nothing."""
    both = [subprocess.Popen([sys.executable, "-c", PROGRAM]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    found = runs(client)
    assert [run.info.status for run in found] == ["FINISHED"] * 2 and not Path("mlruns/undelivered").exists()
    assert [len(client.get_metric_history(run.info.run_id, "loss")) for run in found] == [40, 40]


def test_git_tags(client, tmp_path):
    """The commit is named; a changed file makes the tree dirty, a changed dvc.lock or report does not."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1")
    git("add", "code.py", "dvc.lock")
    git("commit", "-m", "x")
    states = []
    for name in ("dvc.lock", "code.py"):
        (tmp_path / name).write_text("2")
        with track("rpn", {}, {}, profile="demo") as tracker:
            states.append(client.get_run(tracker.run_id).data.tags)
    assert [tags["git.dirty"] for tags in states] == ["false", "true"]
    assert states[0]["git.sha"] == git("rev-parse", "HEAD")


def test_uri_is_absolute(client, tmp_path, monkeypatch):
    """A SQLite path is made absolute; a server's address is kept."""
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a/b.db")
    assert tracking_uri() == f"sqlite:///{tmp_path}/a/b.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri() == "http://127.0.0.1:5000"


def test_models_of_a_stage_are_child_runs_with_the_same_metric_names(client):
    """What a stage does with CLIP and with RegionCLIP can be compared, and is found below the stage's run."""
    with track("evaluate@coco", {}, {}, profile="demo") as stage:
        for model, value in (("clip", 0.25), ("regionclip", 0.5)):
            with stage.model_run(model) as run:
                run.log_metrics({"ap50_novel": value})
    children = {run.data.tags["model"]: run for run in runs(client) if "model" in run.data.tags}
    assert {name: run.data.metrics["ap50_novel"] for name, run in children.items()} == {"clip": 0.25, "regionclip": 0.5}
    for run in children.values():
        assert run.data.tags["mlflow.parentRunId"] == stage.run_id and run.info.status == "FINISHED"
        assert run.data.tags["dvc.stage"] == "evaluate@coco"


def test_models_of_an_unreachable_store_are_kept_beside_the_stage(client, monkeypatch):
    """Without MLflow a child is not tried again: its record is kept as the stage's is."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/no/such/place.db")
    with track("evaluate@coco", {}, {}, profile="demo") as stage, stage.model_run("clip") as run:
        run.log_metrics({"ap50_novel": 0.25})
    kept = sorted(path.name for path in Path("mlruns/undelivered").iterdir())
    assert len(kept) == 2 and kept[1].startswith("evaluate_coco_clip-")
    assert run.run_id is None
