"""The automations against a real Prefect server: made once, updated when they change; a failure calls the webhook.

That silent and stuck runs become Crashed is shown on PostgreSQL, in tests/infra/test_services.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Failed

from flows import automations
from flows.automations import WEBHOOK_BLOCK, WEBHOOK_SETTING, ensure_automations

NAMES = {
    "regionclip: a flow run failed",
    "regionclip: a running flow run went silent",
    "regionclip: a flow run stays pending",
}


@flow(name="pipeline")
def ours() -> None:
    """A flow with the name of the pipeline's."""


@flow(name="somebody-elses")
def foreign() -> None:
    """A flow that the automations must leave alone."""


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def wait_for(condition: Callable[[], object], seconds: float = 40) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: It does not hold in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """A client of a real server with all its services, as `prefect server start` gives it."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "REGIONCLIP_"))}
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "PREFECT_UI_URL": f"http://127.0.0.1:{port}",
    }
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port), "--no-ui"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=kept | settings, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _healthy(f"{address}/api/health"), 300)
        with (
            temporary_settings({PREFECT_API_URL: f"{address}/api"}),
            get_client(sync_client=True) as opened,
        ):
            yield opened
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _healthy(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """A receiver of webhooks; gives the list of what came."""
    came: list[dict[str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        monkeypatch.setenv(WEBHOOK_SETTING, f"http://127.0.0.1:{receiver.server_port}/hook")
        yield came
        receiver.shutdown()


def _mine(client: SyncPrefectClient) -> list[str]:
    return [automation.name for name in NAMES for automation in client.read_automations_by_name(name)]


def test_a_second_call_changes_nothing_and_without_a_webhook_nobody_is_told(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEBHOOK_SETTING, raising=False)
    assert ensure_automations(client) == dict.fromkeys(NAMES, "created")
    assert ensure_automations(client) == dict.fromkeys(NAMES, "unchanged")
    assert sorted(_mine(client)) == sorted(NAMES)
    (notice,) = client.read_automations_by_name("regionclip: a flow run failed")
    assert [action.type for action in notice.actions] == ["do-nothing"]
    assert WEBHOOK_SETTING in notice.description


def test_a_changed_definition_is_updated_and_a_duplicate_removed(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_automations(client)
    (zombies,) = client.read_automations_by_name("regionclip: a running flow run went silent")
    client.create_automation(AutomationCore.model_validate(zombies.model_dump(exclude={"id"})))
    client.pause_automation(zombies.id)
    monkeypatch.setattr(automations, "PENDING_MINUTES", 7)
    done = ensure_automations(client)
    assert done == {
        "regionclip: a flow run failed": "unchanged",
        "regionclip: a running flow run went silent": "updated",
        "regionclip: a flow run stays pending": "updated",
    }
    assert sorted(_mine(client)) == sorted(NAMES)
    (pending,) = client.read_automations_by_name("regionclip: a flow run stays pending")
    assert pending.trigger.within == timedelta(minutes=7)
    assert ensure_automations(client) == dict.fromkeys(NAMES, "unchanged")


def test_a_failed_run_of_ours_calls_the_webhook_and_a_foreign_one_does_not(
    client: SyncPrefectClient, webhook: list[dict[str, str]]
) -> None:
    ensure_automations(client)
    assert client.read_block_document_by_name(WEBHOOK_BLOCK, "webhook")
    message = 'evaluate@coco: data check failed ("boxes")'
    other = client.create_flow_run(foreign)
    client.set_flow_run_state(other.id, Failed(message="not ours"), force=True)
    run = client.create_flow_run(ours, name="of-monday")
    client.set_flow_run_state(run.id, Failed(message=message), force=True)
    wait_for(lambda: webhook)
    time.sleep(1)
    assert len(webhook) == 1
    assert webhook[0]["text"] == f"pipeline/of-monday: Failed. {message}"
    assert webhook[0]["flow_run"] == str(run.id)
    assert webhook[0]["address"].endswith(str(run.id))
