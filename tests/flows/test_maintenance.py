"""Maintenance against a real Prefect server and a real MLflow store: what it frees, clears, leaves alone and says."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ParameterTypeError
from prefect.flows import flow
from prefect.states import Running, State

from flows.maintenance import DiskAlmostFull, maintenance
from regionclip.tracking.origin import process_tags
from regionclip.tracking.sidecar import write_sidecar
from regionclip.tracking.store import experiment_id
from tests.flows.conftest import commit

DAY = 86400
Command = Callable[..., subprocess.CompletedProcess[str]]


@flow(name="pipeline")
def ours() -> None:
    """A flow with the name of the pipeline's."""


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set how many GB of the disk's 1,000 are free; at first 200, whatever this machine has."""

    def free(gigabytes: float) -> None:
        usage = namedtuple("usage", "total used free")(1000e9, (1000 - gigabytes) * 1e9, gigabytes * 1e9)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    free(200)
    return free


@pytest.fixture(scope="module")
def prefect(prefect_server: None) -> Iterator[SyncPrefectClient]:
    """A client of the tests' server."""
    with get_client(sync_client=True) as client:
        yield client


def run_of(client: MlflowClient, name: str, *, age_days: float, status: str | None = "FINISHED", **tags: str) -> str:
    """Make a run with one artifact that started, and ended unless ``status`` is None, so many days ago."""
    when = int(1000 * (time.time() - age_days * DAY))
    experiment = experiment_id(client)
    dotted = {key.replace("__", "."): value for key, value in tags.items()}
    run = client.create_run(experiment, start_time=when, run_name=name, tags=dotted).info.run_id
    client.log_text(run, "x" * 1000, "plots/plot.txt")
    if status:
        client.set_terminated(run, status, when)
    return run


def files_of(client: MlflowClient, run: str) -> list[str]:
    """Names of a run's artifacts."""
    return [file.path for file in client.list_artifacts(run)]


def test_runs_without_a_process_are_closed_and_those_that_may_live_are_not(
    prefect: SyncPrefectClient, client: MlflowClient
) -> None:
    host = os.uname().nodename
    mine = {key.replace(".", "__"): value for key, value in process_tags().items()}
    over, going = (str(prefect.create_flow_run(ours).id) for _ in range(2))
    prefect.set_flow_run_state(over, Running(), force=True)
    prefect.set_flow_run_state(over, State(type="CRASHED"), force=True)
    runs = {
        name: run_of(client, name, status=None, **{"age_days": 3, **tags})
        for name, tags in {
            "killed": {"age_days": 0.01, "host": host, "process__pid": str(2**22 + 1), "process__started": "1.0"},
            "reused pid": {"age_days": 0.01, "host": host, **mine, "process__started": "1.0"},
            "long": {"host": host, **mine},
            "elsewhere": {"host": "other"},
            "elsewhere and new": {"age_days": 0.5, "host": "other"},
            "elsewhere and logging": {"host": "other"},
            "elsewhere and going": {"host": "other", "prefect__flow_run_id": going},
            "elsewhere and over": {"host": "other", "prefect__flow_run_id": over},
        }.items()
    }
    client.log_metric(runs["elsewhere and logging"], "loss", 1.0)

    maintenance(dry_run=True)
    assert {client.get_run(run).info.status for run in runs.values()} == {"RUNNING"}
    rows = maintenance()
    killed = {name for name, run in runs.items() if client.get_run(run).info.status == "KILLED"}
    assert killed == {"killed", "reused pid", "elsewhere", "elsewhere and over"}
    assert {client.get_run(runs[name]).data.tags["closed_by"] for name in killed} == {"maintenance"}
    assert len([row for row in rows if row["subject"] == "MLflow run"]) == 4


def test_old_scratch_of_no_live_run_is_removed(prefect: SyncPrefectClient, client: MlflowClient) -> None:
    def state(stage: str, digest: str, age_days: float) -> Path:
        folder = Path(".scratch") / stage / digest
        folder.mkdir(parents=True)
        (folder / "iter_5.pth").write_bytes(b"x" * 100)
        for path in (folder / "iter_5.pth", folder):
            os.utime(path, (time.time() - age_days * DAY,) * 2)
        return folder

    old, new = state("pretrain", "a" * 16, 40), state("pretrain", "b" * 16, 2)
    live, other = state("teacher", "c" * 16, 40), state("patches", "weekly", 40)
    touched = state("rpn", "d" * 16, 40)
    (touched / "newer").touch()
    os.utime(touched, (time.time() - 40 * DAY,) * 2)
    run_of(client, "teacher", age_days=0.5, status=None, host="other", stage__digest="c" * 64)

    maintenance(dry_run=True)
    assert old.exists()
    rows = maintenance()
    assert not old.exists() and all(path.exists() for path in (new, live, other, touched))
    assert [row["item"] for row in rows if row["subject"] == "scratch"] == [f"pretrain/{'a' * 16}"]


def test_old_artifacts_go_unless_something_refers_to_their_run(
    prefect: SyncPrefectClient, client: MlflowClient
) -> None:
    parent = run_of(client, "pipeline", age_days=40)
    cached = run_of(client, "teacher", age_days=90)
    client.set_tag(parent, "stage.teacher.run_id", cached)
    child = {"mlflow__parentRunId": parent}
    runs = {
        "pipeline of a version": parent,
        "stage that it links to": cached,
        "version": run_of(client, "register", age_days=40, **child),
        "sibling": run_of(client, "evaluate", age_days=40, **child),
        "in a sidecar": run_of(client, "pretrain", age_days=40),
        "new": run_of(client, "rpn", age_days=10),
        "old": run_of(client, "finetune", age_days=40),
        "old and failed": run_of(client, "finetune", age_days=40, status="FAILED"),
    }
    runs["model of one in a sidecar"] = run_of(client, "clip", age_days=40, mlflow__parentRunId=runs["in a sidecar"])
    client.log_metric(runs["old"], "AP", 0.3)
    client.create_registered_model("regionclip-coco")
    client.create_model_version("regionclip-coco", "file:///nowhere", runs["version"])
    Path("artifacts/runs").mkdir(parents=True)
    sidecar = {"stage": "pretrain", "run_id": runs["in a sidecar"], "seconds": 1.0, "digest": "0" * 64}
    Path("artifacts/runs/pretrain.json").write_text(json.dumps(sidecar))

    maintenance(dry_run=True)
    assert all(files_of(client, run) for run in runs.values())
    rows = maintenance()
    assert {name for name, run in runs.items() if not files_of(client, run)} == {"old", "old and failed"}
    assert client.get_run(runs["old"]).data.metrics == {"AP": 0.3}
    assert len([row for row in rows if row["subject"] == "MLflow artifacts"]) == 2
    assert not [row for row in maintenance() if row["subject"] == "MLflow artifacts"]


def test_what_a_commit_names_stays_and_who_does_not_know_removes_nothing(
    prefect: SyncPrefectClient, client: MlflowClient, repository: Path, tmp_path: Path, command: Command
) -> None:
    """Sidecars of a branch that is not checked out; a clone without them, without results, shallow, offline."""
    runs = {name: run_of(client, name, age_days=40) for name in ("main", "branch", "kept by a tag", "old")}
    client.set_tag(runs["kept by a tag"], "keep", "for the paper")
    stage = {"cmd": "python step.py", "deps": ["params.yaml"], "outs": ["artifacts/runs/a.json"]}
    ignored = (repository / ".gitignore").read_text() + "/artifacts\n"
    commit(repository, {"dvc.yaml": yaml.safe_dump({"stages": {"a": stage}}), ".gitignore": ignored})
    for name in ("branch", "main"):
        command(repository, "git", "checkout", "--quiet", *(["-b", name] if name == "branch" else [name]))
        write_sidecar(repository / "artifacts/runs/a.json", "a", runs[name], 1.0, "d")
        command(repository, "dvc", "commit", "--force", "--quiet").check_returncode()
        commit(repository, {"of": name})
    clone = tmp_path / "clone"
    command(tmp_path, "git", "clone", "--quiet", str(repository), str(clone)).check_returncode()

    def removed(folder: Path, dry_run: bool = True) -> tuple[list[str], str]:
        mlruns = tmp_path / "mlruns"
        if not (folder / "mlruns").exists():
            (folder / "mlruns").symlink_to(mlruns)
        with contextlib.chdir(folder):
            rows = maintenance(dry_run=dry_run)
        said = " ".join(row["found"] for row in rows if row["item"] == "old artifacts")
        return [row["item"].split()[0] for row in rows if row["subject"] == "MLflow artifacts"], said

    assert removed(repository) == (["old"], "")
    names, said = removed(clone)
    assert names == [] and "there are no results here" in said
    write_sidecar(clone / "artifacts/runs/a.json", "a", runs["main"], 1.0, "d")
    names, said = removed(clone)
    assert names == [] and "2 sidecars that commits name are not in DVC's cache" in said
    shutil.copytree(repository / ".dvc/cache", clone / ".dvc/cache")
    assert removed(clone) == (["old"], "")
    command(clone, "git", "remote", "set-url", "origin", str(tmp_path / "away")).check_returncode()
    names, said = removed(clone)
    assert names == [] and "cannot be fetched" in said
    (clone / ".git/shallow").write_text(command(clone, "git", "rev-parse", "HEAD").stdout)
    names, said = removed(clone)
    assert names == [] and "lacks older commits" in said
    removed(repository, dry_run=False)
    assert [name for name, run in runs.items() if not files_of(client, run)] == ["old"]


def test_what_killed_writers_left_is_removed(prefect: SyncPrefectClient, client: MlflowClient) -> None:
    killed = "from regionclip.files import atomic_path; import os\n"
    killed += "with atomic_path('artifacts/teacher/model.pth') as beside: beside.touch(); os._exit(1)"
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert len(list(Path("artifacts/teacher").iterdir())) == 1
    maintenance(dry_run=True)
    assert any(Path("artifacts/teacher").iterdir())
    rows = maintenance()
    assert not any(Path("artifacts/teacher").iterdir())
    assert [row["done"] for row in rows if row["subject"] == "temporary"] == ["removed"]


@pytest.mark.parametrize("days", [0, -1, 10**6])
def test_times_are_bounded(days: int) -> None:
    with pytest.raises(ParameterTypeError):
        maintenance.validate_parameters({"keep_days": days, "dry_run": True})


@pytest.mark.parametrize(
    ("address", "item"),
    [("http://127.0.0.1:9", "http://127.0.0.1:9"), ("http://user:word@127.0.0.1:9", "MLFLOW_TRACKING_URI")],
)
def test_with_mlflow_away_nothing_of_it_is_touched_and_the_table_says_so(
    prefect: SyncPrefectClient, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, address: str, item: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    scratch = Path(".scratch/pretrain") / ("a" * 16)
    scratch.mkdir(parents=True)
    os.utime(scratch, (0, 0))
    rows = maintenance()
    (told,) = [row for row in rows if row["subject"] == "MLflow"]
    assert told["item"] == item and "word@" not in str(rows)
    assert scratch.exists()


def test_a_disk_that_is_almost_full_fails_the_run_after_its_work_and_leaves_the_table(
    prefect: SyncPrefectClient, client: MlflowClient, disk: Callable[[float], None]
) -> None:
    disk(50)
    with pytest.raises(DiskAlmostFull, match=r"50\.0 GB of 1\.0 TB free"):
        maintenance()
    tables = [artifact for artifact in prefect.read_latest_artifacts() if artifact.key == "maintenance"]
    assert "alarm: below 10%" in tables[0].data
    disk(200)
    assert maintenance()[-1]["done"] == "nothing"
