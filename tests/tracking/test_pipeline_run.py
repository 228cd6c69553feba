"""The parent run links a pipeline run to the stage runs that made its outputs, to dvc.lock and to its numbers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from regionclip.files import write_json
from regionclip.tracking.pipeline_run import StageRecord, finish_pipeline_run, start_pipeline_run, tracking_ui_link
from regionclip.tracking.record import FOLDER
from regionclip.tracking.sidecar import write_sidecar
from regionclip.tracking.tracker import track
from regionclip.tracking.undelivered import sync

NOBODY = "http://127.0.0.1:9"  # no server listens there
SUMMARY = {"profile": "demo", "seed": 1, "split": "val", "seconds": {"data": 9.0}, "teacher": {"image_top1": 0.9}}


def test_parent_has_stages_lock_and_numbers(client, tmp_path, monkeypatch):
    """Stages of this run are children; a cached one is linked to the older run that made it; the lock is named."""
    with track("data", {}, {}, profile="demo") as older:
        pass
    parent = start_pipeline_run("demo", {"prefect.flow_run_id": "f1"})
    monkeypatch.setenv("REGIONCLIP_PARENT_RUN_ID", parent)
    with track("finetune@coco", {}, {}, profile="demo") as child:
        pass
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    write_json(tmp_path / "reports/summary.json", SUMMARY)
    stages = [
        StageRecord("data", "cached", older.run_id, None),
        StageRecord("finetune@coco", "ran", child.run_id, 2.5),
        StageRecord("report", "ran", None, 1.0),
        StageRecord("evaluate@coco", "not run", None, None),
    ]
    finish_pipeline_run(parent, stages, status="FINISHED", root=tmp_path)
    run = client.get_run(parent)
    md5 = hashlib.md5(b"schema: '2.0'\n").hexdigest()
    assert run.data.tags.items() >= {
        "profile": "demo", "kind": "pipeline", "prefect.flow_run_id": "f1", "git.sha": "none", "dvc.lock.md5": md5,
        "stage.data.run_id": older.run_id, "stage.data.outcome": "cached",
        "stage.finetune_coco.run_id": child.run_id, "stage.finetune_coco.outcome": "ran",
        "stage.report.outcome": "ran", "stage.evaluate_coco.outcome": "not run",
    }.items()  # fmt: skip
    assert "stage.evaluate_coco.run_id" not in run.data.tags and run.info.status == "FINISHED"
    assert run.data.metrics == {"seconds/finetune_coco": 2.5, "seconds/report": 1.0, "teacher/image_top1": 0.9}
    assert {item.path for item in client.list_artifacts(parent)} == {"dvc.lock", "packages.json"}
    packages = json.loads(Path(client.download_artifacts(parent, "packages.json", str(tmp_path))).read_text())
    assert packages["torch"] and packages["mlflow"]
    tags = client.get_run(child.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent and tags["package.mmdet"] == packages["mmdet"]


def test_stage_whose_record_came_late_is_found_by_its_digest(client, tmp_path):
    """Its sidecar knows no run, since MLflow was away; the run that was delivered later has the digest."""
    with track("evaluate@coco", {}, {}, profile="demo", digest="d" * 64) as late:
        pass
    with pytest.raises(RuntimeError), track("evaluate@coco", {}, {}, profile="demo", digest="d" * 64):
        raise RuntimeError("a failed one has the digest too")
    write_sidecar(tmp_path / "artifacts/runs/evaluate_coco.json", "evaluate@coco", None, 3.0, "d" * 64)
    parent = start_pipeline_run("demo", {})
    finish_pipeline_run(parent, [StageRecord("evaluate@coco", "cached", None, None)], status="FAILED", root=tmp_path)
    run = client.get_run(parent)
    assert run.data.tags["stage.evaluate_coco.run_id"] == late.run_id and run.info.status == "FAILED"


def test_summary_of_an_older_run_is_left_out(client, tmp_path):
    """Where the report did not run, reports/summary.json is of another run."""
    write_json(tmp_path / "reports/summary.json", SUMMARY)
    parent = start_pipeline_run("demo", {})
    finish_pipeline_run(parent, [StageRecord("report", "failed", None, None)], status="FAILED", root=tmp_path)
    assert client.get_run(parent).data.metrics == {}


def test_pipeline_goes_on_without_mlflow(client, tmp_path, monkeypatch, caplog):
    """No run and a warning; closing nothing is no error; there is no link."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    assert start_pipeline_run("demo", {}) is None and "MLflow did not open the pipeline's run" in caplog.text
    finish_pipeline_run(None, [], status="FINISHED", root=tmp_path)
    assert not FOLDER.exists() and tracking_ui_link(None) is None and tracking_ui_link("0" * 32) is None


def test_end_that_mlflow_missed_is_delivered_later(client, tmp_path, monkeypatch, caplog):
    """MLflow goes away during the pipeline: the end is kept with the lock of that time, and delivered by a sync."""
    parent = start_pipeline_run("demo", {})
    (tmp_path / "dvc.lock").write_text("then")
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", NOBODY)
        finish_pipeline_run(parent, [StageRecord("rpn", "ran", "r1", 2.0)], status="FINISHED", root=tmp_path)
    assert "Its end is in" in caplog.text and client.get_run(parent).info.status == "RUNNING"
    (tmp_path / "dvc.lock").write_text("now")
    (done,) = sync()
    assert (done.outcome, done.run_id, done.stage) == ("delivered", parent, "pipeline")
    run = client.get_run(parent)
    assert run.info.status == "FINISHED" and run.data.metrics == {"seconds/rpn": 2.0}
    assert run.data.tags["stage.rpn.run_id"] == "r1"
    assert run.data.tags["dvc.lock.md5"] == hashlib.md5(b"then").hexdigest()
    assert Path(client.download_artifacts(parent, "dvc.lock", str(tmp_path / "mlruns"))).read_text() == "then"


def test_link_needs_a_server(client):
    """A run in a file has no address."""
    assert tracking_ui_link(start_pipeline_run("demo", {})) is None


def test_parent_of_a_killed_flow_is_closed_by_the_next(client):
    """A flow that was killed leaves its run RUNNING; the next one on this host closes it."""
    program = "import os; from regionclip.tracking.pipeline_run import start_pipeline_run as s; print(s('demo', {}))"
    killed = subprocess.check_output([sys.executable, "-c", program], text=True).split()[-1]
    assert client.get_run(killed).info.status == "RUNNING"
    parent = start_pipeline_run("demo", {})
    assert client.get_run(killed).info.status == "KILLED" and client.get_run(killed).data.tags["closed_by"] == parent
    assert client.get_run(parent).info.status == "RUNNING"


def test_import_brings_no_torch():
    """Flows import it, and flows run where models do not."""
    program = (
        "import sys, regionclip.tracking.pipeline_run, regionclip.inference.promotion; print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"
