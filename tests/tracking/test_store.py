"""The store: it goes where its workspace goes, MLflow's own commands find it, and a broken one stops no stage."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from regionclip.tracking.record import FOLDER
from regionclip.tracking.store import EXPERIMENT, connect, experiment_id, process_wide, tracking_uri
from regionclip.tracking.tracker import track
from regionclip.tracking.undelivered import sync

MODEL = """
import mlflow
from mlflow.pyfunc import PythonModel
class Answer(PythonModel):
    def load_context(self, context):
        self.answer = open(context.artifacts["answer"]).read()
    def predict(self, context, model_input: list[str]) -> list[str]:
        return [self.answer for _ in model_input]
mlflow.models.set_model(Answer())
"""
LOOK = """
import mlflow
from mlflow import MlflowClient
print(mlflow.pyfunc.load_model("models:/toy@candidate").predict(["x"])[0])
client = MlflowClient()
for run in client.search_runs(["1"], order_by=["attributes.start_time ASC"]):
    for item in client.list_artifacts(run.info.run_id):
        if item.path == "plot.txt":
            print(open(client.download_artifacts(run.info.run_id, item.path)).read())
"""


def stage(folder: Path, word: str) -> str:
    """Run a stage in a folder, with a file that holds ``word``; return its run."""
    with contextlib.chdir(folder), track("rpn", {}, {}, profile="demo") as tracker:
        Path("plot.txt").write_text(word)
        tracker.log_artifact("plot.txt")
    return tracker.run_id


def register(folder: Path, word: str, experiment: str) -> None:
    """Register a model in a folder that answers with ``word``."""
    with contextlib.chdir(folder):
        Path("model.py").write_text(MODEL)
        Path("answer.txt").write_text(word)
        client = connect(tracking_uri())
        with process_wide(tracking_uri()), mlflow.start_run(experiment_id=experiment):
            info = mlflow.pyfunc.log_model(
                name="toy",
                python_model="model.py",
                artifacts={"answer": "answer.txt"},
                registered_model_name="toy",
                pip_requirements=["mlflow"],
            )
        client.set_registered_model_alias("toy", "candidate", str(info.registered_model_version))


def look(folder: Path) -> list[str]:
    """The words of the model and the runs that plain MLflow finds in a fresh shell, with nothing said of the store."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "REGIONCLIP_"))}
    command = [sys.executable, "-c", LOOK]
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    done = subprocess.run(command, cwd=folder, env=kept | off, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def workspace(client: MlflowClient, template: Path, tmp_path: Path) -> Path:
    """A workspace with a run and a registered model."""
    folder = tmp_path / "a workspace"
    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(template, folder / "mlruns/mlflow.db")
    stage(folder, "first")
    register(folder, "one", "1")
    return folder


def test_workspace_that_is_copied_or_moved_keeps_its_runs_and_models(workspace: Path, tmp_path: Path) -> None:
    """A copy reads and writes its own, by our code and by plain MLflow, and the original stays as it is, byte by byte;
    one that is moved and renamed has all that it had. The database says nowhere where it is."""
    copy = tmp_path / "copied"
    shutil.copytree(workspace, copy)
    before = tree(workspace)
    stage(copy, "second")
    register(copy, "two", "1")
    assert look(copy) == ["two", "first", "second"]
    assert tree(workspace) == before
    moved = tmp_path / "deep" / "moved"
    moved.parent.mkdir()
    workspace.rename(moved)
    stage(moved, "third")
    assert look(moved) == ["one", "first", "third"] and not workspace.exists()
    for folder in (copy, moved):
        content = (folder / "mlruns/mlflow.db").read_bytes()
        assert str(folder).encode() not in content and b"a workspace" not in content.replace(b"%20", b" ")
        assert not (folder / "mlflow.db").exists()


def old_store(folder: Path, template: Path) -> str:
    """Make a store as older versions did, with the addresses of its folder; return its run."""
    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(template, folder / "mlruns/mlflow.db")
    with contextlib.chdir(folder):
        client = connect(tracking_uri())
    experiment = client.create_experiment(EXPERIMENT, artifact_location=(folder / "mlruns/artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "old", "plot.txt")
    register(folder, "old", experiment)
    # As MLflow 2 wrote them, with the address of the files in place of the model's.
    location = client.search_logged_models([experiment])[0].artifact_location
    with sqlite3.connect(folder / "mlruns/mlflow.db") as database:
        database.execute("UPDATE model_versions SET source = ?", (location,))
    return run


def test_store_of_an_older_version_is_mended_when_it_is_opened(client, template: Path, tmp_path: Path) -> None:
    """In its place it goes on working; in a copy, runs and models are the copy's from the first stage on, even where
    the original is gone."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    run = old_store(original, template)
    shutil.copytree(original, copy)
    before = tree(original)
    stage(copy, "new")
    assert tree(original) == before
    assert b"original/mlruns" not in (copy / "mlruns/mlflow.db").read_bytes()
    stage(original, "new")
    mended = connect(f"sqlite:///{original}/mlruns/mlflow.db")
    assert mended.get_run(run).info.artifact_uri == f"mlflow-artifacts:/{run}/artifacts"
    assert Path(mended.download_artifacts(run, "plot.txt")).read_text() == "old"
    shutil.rmtree(original)
    assert look(copy) == ["old", "old", "new"]


def test_database_that_was_copied_alone_leads_to_the_original(client, template: Path, tmp_path: Path) -> None:
    """Its files are nowhere else, so its addresses stay."""
    run = old_store(tmp_path / "original", template)
    (tmp_path / "copy/mlruns").mkdir(parents=True)
    shutil.copy(tmp_path / "original/mlruns/mlflow.db", tmp_path / "copy/mlruns")
    uri = f"sqlite:///{tmp_path}/copy/mlruns/mlflow.db"
    experiment_id(connect(uri))
    assert Path(connect(uri).download_artifacts(run, "plot.txt")).read_text() == "old"


def test_experiment_of_the_user_keeps_its_place(template: Path, client: MlflowClient, tmp_path: Path) -> None:
    """One that somebody made on another disk is not ours to move."""
    place = (tmp_path / "big disk").as_uri()
    client.create_experiment(EXPERIMENT, artifact_location=place)
    Path("a.json").write_text("{}")
    with track("rpn", {}, {}, profile="demo") as tracker:
        tracker.log_artifact("a.json")
    assert client.get_run(tracker.run_id).info.artifact_uri.startswith(place)
    assert (tmp_path / "big disk" / tracker.run_id / "artifacts/a.json").exists()


def test_server_and_stages_without_one_share_the_files(server, tmp_path, monkeypatch) -> None:
    """`make mlflow` shows what stages logged to the file, and they find what was logged through it."""
    folder, through = server.folder, connect(server.uri)
    direct = connect(f"sqlite:///{folder}/mlflow.db")
    runs = {}
    for name, uri in (("direct", f"sqlite:///{folder}/mlflow.db"), ("through", server.uri)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with track(name, {}, {}, profile="demo") as tracker:
            Path("by.json").write_text(name)
            tracker.log_artifact("by.json")
        runs[name] = tracker.run_id
    for client in (direct, through):
        for name, run in runs.items():
            assert name in Path(client.download_artifacts(run, "by.json", str(tmp_path))).read_text()
    assert {path.parts[-3] for path in (folder / "artifacts").rglob("by.json")} == set(runs.values())


def of_version(file: Path, revision: str) -> None:
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def bare(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")


def foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE runs (number INTEGER)")


def folder_in_its_place(file: Path) -> None:
    file.unlink()
    file.mkdir()


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (lambda file: of_version(file, "ffffffffffff"), "use the MLflow that wrote it"),
    "older": (lambda file: of_version(file, "451aebb31d03"), "mlflow db upgrade sqlite:///"),
    "newer and empty": (bare, "use the MLflow that wrote it"),
    "of another program": (foreign, "move it away"),
    "text": (lambda file: file.write_text("hello " * 999), "move it away: a new one is made"),
    "noise": (lambda file: file.write_bytes(os.urandom(9999)), "move it away: a new one is made"),
    "cut": (lambda file: os.truncate(file, 99_999), "move it away"),
    "folder": (folder_in_its_place, "that this user may write to"),
}


@pytest.fixture
def unopened(client: MlflowClient, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound store in the working folder that this process has not opened yet."""
    (tmp_path / "new/mlruns").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "new")
    return Path(shutil.copy(template, tmp_path / "new/mlruns/mlflow.db"))


def go_on_with(database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a sound store beside the records that wait; elsewhere, since a process keeps its connection to the file."""
    (folder / "mlruns").mkdir(parents=True)
    FOLDER.rename(folder / FOLDER)
    shutil.copy(database, folder / "mlruns/mlflow.db")
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_store_that_cannot_be_used_delays_the_record(unopened, template, tmp_path, monkeypatch, caplog, kind) -> None:
    """The stage ends well and soon; one warning names the file and a mend, and a sound store gets the record."""
    (spoil, mend), started = UNUSABLE[kind], time.monotonic()
    spoil(unopened)
    with caplog.at_level(logging.WARNING, "regionclip"), track("rpn", {}, {}, profile="demo") as tracker:
        tracker.log_metrics({"loss": 2.0}, step=1)
    assert tracker.run_id is None and time.monotonic() - started < 60
    (said,) = [record.getMessage() for record in caplog.records if "MLflow does not take" in record.message]
    assert str(unopened) in said and mend in said
    go_on_with(template, tmp_path / "mended", monkeypatch)
    assert [synced.outcome for synced in sync()] == ["delivered"]
    assert [run.info.status for run in connect(tracking_uri()).search_runs(["1"])] == ["FINISHED"]


def test_place_that_takes_no_file_delays_the_record(client, monkeypatch, caplog) -> None:
    """Where no file can be made, MLflow alone would try for 100 seconds, at the start and at the end of each stage."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/self/mlflow.db")
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "regionclip"), track("rpn", {}, {}, profile="demo"):
        pass
    assert time.monotonic() - started < 20 and "make /proc/" in caplog.text and len(list(FOLDER.iterdir())) == 1


def test_store_that_breaks_while_a_stage_runs_loses_nothing(client, tmp_path, monkeypatch, caplog) -> None:
    """A broken page is no refusal of the record that found it."""
    file = tmp_path / "mlruns/mlflow.db"
    with caplog.at_level(logging.WARNING, "regionclip"), track("rpn", {}, {}, profile="demo") as tracker:
        tracker.log_metrics({"loss": 1.0}, step=1)
        shutil.copy(file, tmp_path / "whole.db")
        with file.open("r+b") as content:
            content.seek(4096)
            content.write(os.urandom(file.stat().st_size - 4096))
        tracker.log_metrics({"loss": 2.0}, step=2)
    assert "refuses" not in caplog.text
    go_on_with(tmp_path / "whole.db", tmp_path / "mended", monkeypatch)
    assert [synced.outcome for synced in sync()] == ["delivered"]
    found = connect(tracking_uri()).get_metric_history(tracker.run_id, "loss")
    assert [metric.value for metric in found] == [1.0, 2.0]
