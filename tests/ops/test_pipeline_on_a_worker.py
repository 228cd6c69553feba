"""The pipeline on a worker: a schedule starts it, independent stages run side by side, a clone has nothing to do."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from regionclip.tracking.store import EXPERIMENT, connect
from tests.ops.conftest import PROGRAMS, running, wait_until

Command = Callable[..., subprocess.CompletedProcess[str]]
WHOLE_RUN = 3000.0  # seconds; about three minutes on two idle cores
DEPLOYMENT = "pipeline/soon"
LOGS = ("first.log", "second.log")  # of the workers that share a stage


@pytest.fixture(scope="module")
def api(prefect_api: dict[str, str]) -> Iterator[SyncPrefectClient]:
    """A client of the server."""
    updates = {
        PREFECT_API_URL: prefect_api["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: prefect_api["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(updates), get_client(sync_client=True) as client:
        yield client


def wait_for_end(api: SyncPrefectClient, run_id: UUID, worker: subprocess.Popen[bytes]) -> FlowRun:
    """Wait until a run has ended."""
    deadline = time.monotonic() + WHOLE_RUN
    while True:
        run = api.read_flow_run(run_id)
        if run.state is not None and run.state.is_final():
            return run
        assert worker.poll() is None and time.monotonic() < deadline, run.state
        time.sleep(2)


def tasks_of(api: SyncPrefectClient, run: FlowRun) -> dict[str, TaskRun]:
    found = api.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    return {task.name: task for task in found}


@pytest.fixture(scope="module")
def scheduled(deployed: Path, worker: subprocess.Popen[bytes], api: SyncPrefectClient, command: Command) -> FlowRun:
    """The run that a schedule started half a minute after its deployment."""
    start = datetime.now(UTC) + timedelta(seconds=30)
    interval = ("--interval", "86400", "--anchor-date", start.isoformat())
    parameters = ("--params", json.dumps({"pull": True, "push": True}))
    place = ("--name", "soon", "--pool", "gpu", *interval, *parameters)
    done = command(deployed, "prefect", "--no-prompt", "deploy", "flows/pipeline.py:pipeline", *place)
    assert done.returncode == 0, done.stdout + done.stderr
    deployment = api.read_deployment_by_name(DEPLOYMENT)
    deadline = time.monotonic() + 120
    while True:
        runs = [run for run in api.read_flow_runs() if run.deployment_id == deployment.id]
        due = [run for run in runs if run.expected_start_time <= datetime.now(UTC)]
        if due:
            return wait_for_end(api, due[0].id, worker)
        assert time.monotonic() < deadline, "no scheduled run appeared"
        time.sleep(1)


@pytest.fixture(scope="module")
def branch(scheduled: FlowRun, origin: Path, command: Command) -> str:
    """The branch on which the scheduled run's lock left the worker."""
    return f"runs/{scheduled.name}"


def test_scheduled_run_appears_and_completes(scheduled: FlowRun, api: SyncPrefectClient) -> None:
    assert scheduled.auto_scheduled and scheduled.work_pool_name == "gpu"
    assert scheduled.state.is_completed(), scheduled.state.message
    tasks = tasks_of(api, scheduled)
    assert {"data", "finetune@coco", "finetune@lvis", "report", "push"} <= set(tasks)
    assert scheduled.state.message == f"{len(tasks) - 1} ran"


def test_lock_leaves_on_a_branch_and_main_stays(branch: str, origin: Path, command: Command) -> None:
    names = command(origin, "git", "diff", "--name-only", "main", branch).stdout.split()
    assert "dvc.lock" in names and "reports/summary.md" in names
    assert all(name == "dvc.lock" or name.startswith("reports/") for name in names)
    assert command(origin, "git", "rev-list", "--count", "main").stdout.strip() == "1"


def test_parent_run_in_mlflow_has_a_child_for_each_stage(scheduled: FlowRun, mlflow_uri: str) -> None:
    client = connect(mlflow_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    [parent] = client.search_runs(
        [experiment], f"tags.`prefect.flow_run_id` = '{scheduled.id}' and tags.kind = 'pipeline'"
    )
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    ended = {run.data.tags["dvc.stage"] for run in children if run.info.status == "FINISHED"}
    assert parent.info.status == "FINISHED" and {"data", "pretrain", "evaluate@lvis", "report"} <= ended
    assert parent.data.tags["stage.pretrain.outcome"] == "ran"


def test_fresh_clone_pulls_and_has_nothing_to_do(
    branch: str, clone: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    folder = clone(tmp_path / "fresh", branch)
    pulled = command(folder, "dvc", "pull")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(command(folder, "dvc", "status", "--json").stdout) == {}
    again = command(folder, "dvc", "repro", PYTHONPATH=str(folder))
    assert again.returncode == 0 and "Running stage" not in again.stdout
    assert command(folder, "git", "status", "--porcelain", "--untracked-files=no").stdout == ""


def test_triggered_run_runs_concepts_and_teacher_at_the_same_time(
    scheduled: FlowRun, api: SyncPrefectClient, worker: subprocess.Popen[bytes]
) -> None:
    deployment = api.read_deployment_by_name("pipeline/weekly-rebuild")
    parameters: dict[str, Any] = {"targets": ["concepts", "teacher"], "force": True, "pull": True, "push": False}
    triggered = api.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    run = wait_for_end(api, triggered.id, worker)
    assert run.state.is_completed() and run.state.message == "4 ran" and not run.auto_scheduled
    first, second = (tasks_of(api, run)[name] for name in ("concepts", "teacher"))
    assert first.start_time < second.end_time and second.start_time < first.end_time


def test_plain_repro_gives_the_same_lock(
    branch: str, origin: Path, clone: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    folder = clone(tmp_path / "plain")
    settings = {"PYTHONPATH": str(folder), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    done = command(folder, "dvc", "repro", **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    flow = yaml.safe_load(command(origin, "git", "show", f"{branch}:dvc.lock").stdout)
    assert _comparable(yaml.safe_load((folder / "dvc.lock").read_text())) == _comparable(flow)


@pytest.fixture(scope="module")
def shared(
    scheduled: FlowRun,
    api: SyncPrefectClient,
    worker: subprocess.Popen[bytes],
    worker_settings: dict[str, str],
    command: Command,
    deployed: Path,
    logs: Path,
) -> FlowRun:
    """A run up to the pseudo labels, in two parts, while two workers that take one run each are the only ones."""
    command(deployed, "prefect", "gcl", "update", "gpu", "--limit", "2")
    deployment = api.read_deployment_by_name("pipeline/weekly-rebuild")
    parameters: dict[str, Any] = {"targets": ["pseudo_labels"], "force": True, "pull": True, "push": True, "shards": 2}
    triggered = api.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    wait_until(lambda: api.read_flow_run(triggered.id).state.is_running(), 120, "the run starts")
    worker.send_signal(signal.SIGSTOP)  # it takes no more, and its run goes on
    try:
        with contextlib.ExitStack() as stack:
            for log in LOGS:
                start = (PROGRAMS / "prefect", "worker", "start", "--pool", "gpu", "--limit", "1")
                settings = worker_settings | {"PREFECT_WORKER_QUERY_SECONDS": "2"}  # so that both start at once
                stack.enter_context(running(*start, log=logs / log, settings=settings))
            wait_until(
                lambda: api.read_flow_run(triggered.id).state.is_final() or worker.poll() is not None,
                WHOLE_RUN,
                "the pseudo labels are merged",
            )
    finally:
        worker.send_signal(signal.SIGCONT)
    return api.read_flow_run(triggered.id)


def test_two_workers_share_the_shards_of_the_pseudo_labels(shared: FlowRun, api: SyncPrefectClient, logs: Path) -> None:
    assert shared.state.is_completed(), shared.state.message
    parts = {run.name: run for run in api.read_flow_runs() if run.name.startswith(f"{shared.name}-pseudo_labels-")}
    first, second = (parts[f"{shared.name}-pseudo_labels-{number}-of-2"] for number in (1, 2))
    assert first.state.is_completed() and second.state.is_completed()
    assert first.start_time < second.end_time and second.start_time < first.end_time
    taken = [{str(run.id) for run in (first, second) if str(run.id) in (logs / name).read_text()} for name in LOGS]
    assert sorted(map(len, taken)) == [1, 1] and len(set.union(*taken)) == 2


def test_merged_store_equals_that_of_one_worker(shared: FlowRun, branch: str, origin: Path, command: Command) -> None:
    alone, together = (
        yaml.safe_load(command(origin, "git", "show", f"{name}:dvc.lock").stdout)["stages"]["pseudo_labels"]
        for name in (branch, f"runs/{shared.name}")
    )
    store = [out for out in alone["outs"] if out["path"] == "artifacts/pseudo_labels"]
    assert len(store) == 1 and store[0] in together["outs"]


def _comparable(lock: dict[str, Any]) -> dict[str, Any]:
    """Hashes of everything but sidecars and reports, which hold the run's id and seconds."""
    for stage in lock["stages"].values():
        for part in ("deps", "outs"):
            kept = [
                entry for entry in stage.get(part, []) if not entry["path"].startswith(("artifacts/runs", "reports"))
            ]
            stage[part] = kept
    return lock
