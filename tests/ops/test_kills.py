"""Kills and outages on real servers and workers: what was finished stays, the queue is free, the next run goes on.

`dvc repro` killed while hashing is in tests/flows/test_processes.py, a full disk in tests/recovery.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from flows.checkout import WORKTREE
from regionclip.tracking.record import FOLDER
from regionclip.tracking.store import EXPERIMENT, connect
from tests.ops.conftest import HOST, PROGRAMS, free_port, running, status, wait_until
from tests.ops.places import SOON, Place

NOBODY = f"http://{HOST}:9"  # no MLflow listens there, and the flows must not mind
SILENCE = 300.0  # until the automation acts: three heartbeats of 30 seconds, and its own round
AWAY = 80.0


@pytest.fixture(scope="module")
def make_place(tmp_path_factory: pytest.TempPathFactory, quiet: dict[str, str]) -> Callable[..., Place]:
    """A function that makes a place by name, at a Prefect server, with its deployment."""

    def make(name: str, server: Mapping[str, str], mlflow: str = NOBODY, *, tracked: bool = False) -> Place:
        made = Place(tmp_path_factory.mktemp("places") / name, quiet | server | {"MLFLOW_TRACKING_URI": mlflow})
        made.set_up(tracked=tracked)
        made.deploy()
        return made

    return make


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int, settings: Mapping[str, str]) -> Iterator[None]:
    """An MLflow server on files of a folder for as long as the block lasts."""
    store = ("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}")
    store = (*store, "--artifacts-destination", str(folder / "artifacts"))
    command = (PROGRAMS / "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *store)
    off = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with running(*command, log=folder / "mlflow.log", settings=dict(settings) | off, cwd=folder):
        wait_until(lambda: status(f"http://{HOST}:{port}/health") == 200, SOON, "MLflow starts")
        yield


def kill(worker: subprocess.Popen[bytes], *, stages: bool) -> None:
    """SIGKILL a worker and its flow processes, and with ``stages`` all below them, as the end of a machine does.

    Returns when the others have ended too.
    """
    family = psutil.Process(worker.pid).children(recursive=True)
    supervisors = [process for process in family if "supervise.py" in " ".join(process.cmdline())]
    spared = [] if stages else [left for top in supervisors for left in (top, *top.children(recursive=True))]
    # The worker first: it would tell the server of a flow process that died.
    worker.kill()
    for process in family:
        if process not in spared:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    wait_until(lambda: not any(map(_lives, family)), 60, "what a killed flow leaves behind ends")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # without an init process nobody collects those
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def crashed(make_place: Callable[..., Place], prefect_api: dict[str, str]) -> dict[str, tuple[Place, UUID, UUID]]:
    """Places with a run that was killed while it trained, and one that had been waiting for its end.

    In ``worker`` the worker and the flow process were killed, in ``machine`` the stage's processes too. Both runs came
    to an end by the server's automation.
    """
    places = [make_place(name, prefect_api) for name in ("worker", "machine")]
    make = "with get_client(sync_client=True) as client: ensure_automations(client)"
    imports = "from flows.automations import ensure_automations; from prefect.client.orchestration import get_client"
    places[0].command(sys.executable, "-c", f"{imports}\n{make}")
    found = {}
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(each.worker()) for each in places]
        killed = [each.trigger() for each in places]
        for each in places:
            each.wait_for_training()
        waiting = [each.trigger() for each in places]
        for each, run, queued, worker in zip(places, killed, waiting, workers, strict=True):
            doing = f"the second run of {each.name} waits"
            wait_until(lambda: each.state(queued).name == "AwaitingConcurrencySlot", SOON, doing)  # noqa: B023
            kill(worker, stages=each.name == "machine")
            each.release()
            assert each.state(run).is_running(), "nobody has told the server"
            found[each.name] = (each, run, queued)
    for each, run, _ in found.values():
        each.end_of(run, SILENCE)
    return found


@pytest.mark.parametrize("killed", ["worker", "machine"])
def test_run_of_a_dead_worker_is_marked_crashed(crashed: dict[str, tuple[Place, UUID, UUID]], killed: str) -> None:
    """Its finished stages are whole, its training has left no output."""
    place, run, _ = crashed[killed]
    state = place.state(run)
    assert state.is_crashed() and state.message == "No heartbeat: its process is gone."
    assert place.recorded() == {"prepare", "side"} and not (place.folder / WORKTREE / "train.txt").exists()


def test_waiting_run_starts_and_resumes_the_training(crashed: dict[str, tuple[Place, UUID, UUID]]) -> None:
    place, _, queued = crashed["worker"]
    with place.worker():
        state = place.end_of(queued)
    assert state.is_completed() and state.message == "2 cached, 2 ran"
    place.assert_each_done_once()


def test_retry_resumes_the_training(crashed: dict[str, tuple[Place, UUID, UUID]]) -> None:
    """The retry may be taken before or after the run that waited; whichever is first resumes, the other has no work."""
    place, run, queued = crashed["machine"]
    place.command("prefect", "flow-run", "retry", str(run))
    with place.worker():
        states = [place.end_of(run), place.end_of(queued)]
    assert all(state.is_completed() for state in states)
    assert sorted(state.message for state in states) == ["2 cached, 2 ran", "4 cached"]
    place.assert_each_done_once()


def test_worker_killed_before_its_run_ran_does_not_hold_the_queue(
    make_place: Callable[..., Place], prefect_api: dict[str, str]
) -> None:
    """The program that should have become the flow's process only sleeps, and is killed with the worker."""
    place = make_place("pending", prefect_api)
    place.release()
    stuck = place.trigger(command="sleep 600")
    with place.worker() as worker:
        family = psutil.Process(worker.pid)
        wait_until(
            lambda: any(child.name() == "sleep" for child in family.children(recursive=True)), SOON, "a run starts"
        )
        kill(worker, stages=True)
    assert place.state(stuck).is_pending()
    following = place.trigger()
    with place.worker():
        wait_until(lambda: place.state(following).name == "AwaitingConcurrencySlot", SOON, "the queue is held")
        # The automation does it in half an hour; this is what an operator does before.
        place.command("prefect", "--no-prompt", "flow-run", "delete", str(stuck))
        assert place.end_of(following).is_completed()
    place.assert_each_done_once()


def test_mlflow_away_during_a_training_gets_its_record_later(
    make_place: Callable[..., Place], prefect_api: dict[str, str], quiet: dict[str, str], tmp_path: Path
) -> None:
    """The server is stopped in the middle of a stage and started again after the run."""
    port = free_port()
    uri = f"http://{HOST}:{port}"
    place = make_place("untracked", prefect_api, uri, tracked=True)
    with place.worker():
        with mlflow_server(tmp_path, port, quiet):
            run = place.trigger()
            place.wait_for_training()
        place.release()
        state = place.end_of(run)
    assert state.is_completed() and state.message == "4 ran"
    place.assert_each_done_once()
    assert len(list((place.folder / FOLDER).glob("*.json"))) == 2, "the ends of the training and of the pipeline's run"
    with mlflow_server(tmp_path, port, quiet):
        assert place.command("regionclip", "mlflow-sync").count(": delivered") == 2
        client = connect(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
        [parent] = client.search_runs([experiment], f"tags.`prefect.flow_run_id` = '{run}' and tags.kind = 'pipeline'")
        [child] = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        losses = [metric.value for metric in client.get_metric_history(child.info.run_id, "loss")]
    assert parent.info.status == child.info.status == "FINISHED" and losses == [1 / step for step in range(1, 6)]
    assert parent.data.tags["stage.train.outcome"] == "ran" and not any((place.folder / FOLDER).iterdir())


def test_prefect_server_that_restarts_loses_no_run(
    make_place: Callable[..., Place], start_prefect: Callable[..., contextlib.AbstractContextManager]
) -> None:
    """It is killed in the middle of a training, which ends, and with it the last stage, while nobody listens.

    It is away for longer than Prefect's clients try by default.
    """
    port = free_port()
    with contextlib.ExitStack() as stack:
        server, client = stack.enter_context(start_prefect("restarted", port))
        place = make_place("restarted", client)
        stack.enter_context(place.worker())
        run = place.trigger()
        place.wait_for_training()
        os.killpg(server.pid, signal.SIGKILL)
        place.release()
        wait_until(lambda: "report" in place.recorded(), SOON, "the last stage ends")
        time.sleep(AWAY)
        stack.enter_context(start_prefect("restarted", port))
        state = place.end_of(run, SILENCE)
        assert state.is_completed() and state.message == "4 ran"
        place.assert_each_done_once()
        assert place.end_of(place.trigger()).message == "4 cached", "worker and deployment are there as before"
