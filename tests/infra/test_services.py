"""The servers as compose.yaml starts them, on real PostgreSQL: closed without credentials, open with them, measured."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import flow
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Failed, Pending, Running

from flows import automations

pytestmark = [pytest.mark.ops, pytest.mark.xdist_group("infra")]


@flow(name="pipeline")
def ours() -> None:
    """A flow with the name of the pipeline's."""


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture
def prefect(services: Any, compose: dict[str, Any]) -> Iterator[SyncPrefectClient]:
    """A client with the settings of a worker."""
    auth = compose["services"]["worker-cpu"]["environment"]["PREFECT_API_AUTH_STRING"]
    with (
        temporary_settings({PREFECT_API_URL: f"{services.prefect}/api", PREFECT_API_AUTH_STRING: auth}),
        get_client(sync_client=True) as client,
    ):
        yield client


@pytest.fixture
def mlflow(services: Any, compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client with the settings of a worker."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, compose["services"]["worker-cpu"]["environment"][name])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return MlflowClient(services.mlflow)


def test_prefect_refuses_without_and_with_wrong_credentials(services: Any, prefect: SyncPrefectClient) -> None:
    url = f"{services.prefect}/api/flow_runs/filter"
    assert httpx.post(url, json={}).status_code == 401
    assert httpx.post(url, json={}, auth=("admin", "wrong")).status_code == 401
    assert httpx.get(f"{services.prefect}/api/metrics").status_code == 401
    with (
        temporary_settings({PREFECT_API_AUTH_STRING: "admin:wrong"}),
        get_client(sync_client=True) as stranger,
        pytest.raises(PrefectHTTPStatusError, match="401"),
    ):
        stranger.read_flow_runs()
    assert prefect.read_flow_runs() == []


def test_mlflow_refuses_without_and_with_wrong_credentials(
    services: Any, mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{services.mlflow}/api/2.0/mlflow/experiments/search"
    assert httpx.post(url, json={"max_results": 1}).status_code == 401
    assert httpx.post(url, json={"max_results": 1}, auth=("admin", "wrong")).status_code == 401
    run = mlflow.create_run(mlflow.create_experiment("regionclip")).info
    mlflow.log_metric(run.run_id, "AP", 0.5)
    assert mlflow.get_run(run.run_id).data.metrics == {"AP": 0.5}
    assert run.artifact_uri.startswith("mlflow-artifacts:/"), "the server passes artifacts on, clients need no S3"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(MlflowException, match="401|authenticated"):
        mlflow.get_run(run.run_id)


@pytest.mark.parametrize("name", ["mlflow", "prefect"])
def test_foreign_hosts_and_origins_are_refused_even_with_the_login(
    services: Any, compose: dict[str, Any], name: str
) -> None:
    worker = compose["services"]["worker-cpu"]["environment"]
    if name == "mlflow":
        auth = (worker["MLFLOW_TRACKING_USERNAME"], worker["MLFLOW_TRACKING_PASSWORD"])
        url, own = f"{services.mlflow}/api/2.0/mlflow/experiments/search", "mlflow:5000"
    else:
        auth = tuple(worker["PREFECT_API_AUTH_STRING"].split(":"))
        url, own = f"{services.prefect}/api/flows/filter", "prefect:4200"

    def status(**headers: str) -> int:
        return httpx.post(url, json={"max_results": 1}, auth=auth, headers=headers, timeout=60).status_code

    assert status() == status(Host=own) == status(Origin=url.partition("/api")[0]) == 200
    assert status(Host="evil.example.org") == status(Host="10.evil.example.org") == 403
    for origin in ("http://evil.example.org", "null", f"http://{own}.evil.example.org"):
        assert status(Origin=origin) == 403, origin


def test_health_needs_no_credentials_and_metrics_are_prometheus_s(services: Any, compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker-cpu"]["environment"]
    assert httpx.get(f"{services.prefect}/api/health").json() is True
    assert httpx.get(f"{services.mlflow}/health").text == "OK"
    user, password = worker["PREFECT_API_AUTH_STRING"].split(":")
    of_prefect = httpx.get(f"{services.prefect}/api/metrics", auth=(user, password)).text
    assert "# TYPE process_resident_memory_bytes gauge" in of_prefect
    of_mlflow = httpx.get(
        f"{services.mlflow}/metrics", auth=(worker["MLFLOW_TRACKING_USERNAME"], worker["MLFLOW_TRACKING_PASSWORD"])
    )
    assert of_mlflow.status_code == 200 and "mlflow_http_request_total" in of_mlflow.text


def test_a_worker_logs_in_polls_its_pool_and_says_that_it_is_healthy(
    services: Any, compose: dict[str, Any], prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    worker, port = compose["services"]["worker-cpu"], free_port()
    environment = worker["environment"] | {"PREFECT_API_URL": f"{services.prefect}/api", "HOME": str(tmp_path)}
    environment |= {"PREFECT_WORKER_WEBSERVER_PORT": str(port), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", *worker["command"]]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while not (_answers(f"http://127.0.0.1:{port}/health") and _online(prefect, "cpu")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.3)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).json() == {"message": "OK"}
    except httpx.TransportError:
        return False


def _online(client: SyncPrefectClient, pool: str) -> bool:
    try:
        return [worker.status for worker in client.read_workers_for_work_pool(pool)] == ["ONLINE"]
    except PrefectHTTPStatusError as error:
        assert error.response.status_code == 404, "the worker has not made its pool yet"
        return False


def test_both_servers_keep_their_state_in_postgresql(services: Any, compose: dict[str, Any]) -> None:
    postgres = compose["services"]["postgres"]["environment"]
    for database, user, table in (
        ("prefect", "prefect", "flow_run"),
        ("mlflow", "mlflow", "runs"),
        ("mlflow_auth", "mlflow", "users"),
    ):
        settings = {"PGHOST": "127.0.0.1", "PGPORT": str(services.postgres), "PGUSER": user, "PGDATABASE": database}
        settings |= {"PGPASSWORD": postgres[f"{user.upper()}_DB_PASSWORD"], "PATH": os.environ["PATH"]}
        query = ["psql", "--no-psqlrc", "--tuples-only", "--command", f"select count(*) >= 0 from {table}"]
        assert subprocess.run(query, env=settings, capture_output=True, text=True, check=True).stdout.strip() == "t"


@pytest.mark.parametrize("database", ["prefect", "mlflow", "mlflow_auth"])
def test_a_restored_backup_is_the_database_as_it_was(
    services: Any, compose: dict[str, Any], tmp_path: Path, database: str
) -> None:
    """With the arguments that docs/operate.md gives."""
    superuser = {"PGHOST": "127.0.0.1", "PGPORT": str(services.postgres), "PATH": os.environ["PATH"]}
    superuser |= {"PGPASSWORD": compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"]}
    dump = ["pg_dump", "--username=postgres", "--format=custom", database]
    restore = ["pg_restore", "--username=postgres", "--clean", "--if-exists", f"--dbname={database}"]
    said = (Path(__file__).parents[2] / "docs/operate.md").read_text()
    for command in (dump, restore):
        assert " ".join(command).replace(database, '"$DATABASE"') in said

    def run(command: list[str], **options: Any) -> str:
        return subprocess.run(command, env=superuser, check=True, text=True, **options, stderr=subprocess.PIPE).stdout

    def ask(statement: str) -> str:
        command = ["psql", "--no-psqlrc", "--username=postgres", f"--dbname={database}", "--tuples-only"]
        return run([*command, f"--command={statement}"], stdout=subprocess.PIPE).strip()

    ask("create table kept as select 42 as answer")
    with (tmp_path / "dump").open("wb") as file:
        run(dump, stdout=file)
    ask("update kept set answer = 0")
    with (tmp_path / "dump").open("rb") as file:
        run(restore, stdin=file)
    assert ask("select answer from kept") == "42"
    assert httpx.get(f"{services.prefect}/api/health").json() is True
    assert httpx.get(f"{services.mlflow}/health").text == "OK"
    ask("drop table kept")


@pytest.mark.parametrize(
    "command",
    [
        ["mlflow", "db", "upgrade", "postgresql+psycopg2:///mlflow"],
        ["python", "-m", "mlflow.server.auth", "db", "upgrade", "--url", "postgresql+psycopg2:///mlflow_auth"],
    ],
    ids=["runs", "users"],
)
def test_the_upgrades_of_mlflow_run_with_the_server_s_environment(services: Any, command: list[str]) -> None:
    assert " ".join(command) in (Path(__file__).parents[2] / "docs/operate.md").read_text()
    arguments = command[2:] if command[0] == "python" else command
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=services.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_silent_and_a_stuck_run_become_crashed_and_others_do_not(
    prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = timedelta(seconds=10)  # the least that Prefect takes
    for name in ("_zombies", "_stuck_pending"):
        made = getattr(automations, name)()
        made.trigger.within = quick
        monkeypatch.setattr(automations, name, lambda made=made: made)
    assert set(automations.ensure_automations(prefect).values()) == {"created"}
    time.sleep(2)  # the server loads its triggers in the background

    silent, beating, ended, stuck, unknown = runs = [prefect.create_flow_run(ours) for _ in range(5)]
    for run in (silent, beating, ended):
        prefect.set_flow_run_state(run.id, Running(), force=True)
        _beat(run)
    prefect.set_flow_run_state(ended.id, Failed(), force=True)
    prefect.set_flow_run_state(stuck.id, Pending(), force=True)
    prefect.set_flow_run_state(unknown.id, Pending(), force=True)
    prefect.set_flow_run_state(unknown.id, Running(), force=True)

    def states() -> list[State]:
        _beat(beating)
        time.sleep(1)
        return [prefect.read_flow_run(run.id).state for run in runs]

    end, last = time.monotonic() + 60, states()
    while not (last[0].is_crashed() and last[3].is_crashed()):
        assert time.monotonic() < end, [state.name for state in last]
        last = states()
    for _ in range(12):  # longer than the window
        last = states()
    assert [state.name for state in last] == ["Crashed", "Running", "Failed", "Crashed", "Running"]
    assert "No heartbeat" in last[0].message and "Pending too long" in last[3].message


def _beat(run: FlowRun) -> None:
    flow_of_it = {"prefect.resource.id": f"prefect.flow.{run.flow_id}", "prefect.resource.name": ours.name}
    emit_event(
        "prefect.flow-run.heartbeat",
        resource={"prefect.resource.id": f"prefect.flow-run.{run.id}"},
        related=[flow_of_it | {"prefect.resource.role": "flow"}],
    )
