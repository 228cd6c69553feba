"""Runs all services on this machine's loopback: MLflow, Prefect, a worker for each pool; `make serve`.

Their state is mlruns/ and .prefect/, their output .prefect/logs/. Ctrl-C stops them all.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from flows.deploy import POOLS
from regionclip.errors import InputError

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
START_SECONDS = 300.0
STOP_SECONDS = 40.0  # a worker gives its runs 30 seconds


@dataclass(frozen=True)
class Service:
    """A program that runs until it is stopped.

    Attributes:
        name: Of its log.
        command: Program and arguments.
        address: Answers with 200 once it is up; None for one that nobody waits for.
    """

    name: str
    command: tuple[str, ...]
    address: str | None = None


def services(root: Path, mlflow_port: int, prefect_port: int) -> tuple[list[Service], dict[str, str]]:
    """Return the services in their order of start, and the environment that makes clients of them."""
    programs, state = Path(sys.executable).parent, root / "mlruns"
    prefect, mlflow = str(programs / "prefect"), str(programs / "mlflow")
    store = ("--backend-store-uri", f"sqlite:///{state / 'mlflow.db'}", "--artifacts-destination", f"{state}/artifacts")
    mlflow_url, prefect_url = f"http://{HOST}:{mlflow_port}", f"http://{HOST}:{prefect_port}"
    serving = [
        Service("mlflow", (mlflow, "server", *_listen(mlflow_port), *store), f"{mlflow_url}/health"),
        Service("prefect", (prefect, "server", "start", *_listen(prefect_port)), f"{prefect_url}/api/health"),
    ]
    for pool in POOLS:
        serving.append(Service(f"worker-{pool}", (prefect, "worker", "start", "--pool", pool, "--type", "process")))
    environment = {
        "MLFLOW_TRACKING_URI": mlflow_url,
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_HOME": str(root / ".prefect"),
        # Of a client that was refused a slot; by default up to 30, in which a free GPU would wait for its next stage.
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
        "REGIONCLIP_WORKSPACE": str(root),
    }
    return serving, environment


def serve(root: Path, mlflow_port: int, prefect_port: int, stop: threading.Event) -> None:
    """Start the services, and stop them when ``stop`` is set or one of them ends.

    Raises:
        InputError: A port is taken, or a service does not come up or ends by itself.
    """
    wanted, environment = services(root, mlflow_port, prefect_port)
    for port in (mlflow_port, prefect_port):
        _refuse_taken(port)
    logs = root / ".prefect/logs"
    logs.mkdir(parents=True, exist_ok=True)
    (root / "mlruns").mkdir(exist_ok=True)
    running: dict[Service, subprocess.Popen[bytes]] = {}
    try:
        for service in wanted:
            with (logs / f"{service.name}.log").open("wb") as log:
                running[service] = subprocess.Popen(
                    service.command,
                    cwd=root,
                    env=os.environ | environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            _wait_until_up(service, running, logs, stop)
        if not stop.is_set():
            print(f"MLflow   {environment['MLFLOW_TRACKING_URI']}")
            print(f"Prefect  {environment['PREFECT_API_URL'].removesuffix('/api')}")
            print(f"Workers  {', '.join(POOLS)}; logs in {logs.relative_to(root)}/; Ctrl-C stops all.", flush=True)
        while not stop.wait(1):
            _refuse_ended(running, logs)
    finally:
        _stop(list(running.values()))


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.local", description=__doc__)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    parser.add_argument("--prefect-port", type=int, default=4200)
    chosen, stop = parser.parse_args(), threading.Event()
    # A handler also for SIGINT: were it ignored, as in a shell's background, workers would inherit that and not stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(ROOT, chosen.mlflow_port, chosen.prefect_port, stop)
    except InputError as error:
        print(f"serve: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _listen(port: int) -> tuple[str, ...]:
    return ("--host", HOST, "--port", str(port))


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise InputError(f"port {port} of {HOST} is taken", mend="stop what listens there, or give another port")


def _wait_until_up(
    service: Service, running: dict[Service, subprocess.Popen[bytes]], logs: Path, stop: threading.Event
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while service.address is not None and not stop.wait(0.3):
        _refuse_ended(running, logs)
        try:
            with urllib.request.urlopen(service.address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise InputError(
                    f"{service.name} is not up after {START_SECONDS:.0f} s", file=logs / f"{service.name}.log"
                ) from None


def _refuse_ended(running: dict[Service, subprocess.Popen[bytes]], logs: Path) -> None:
    for service, process in running.items():
        if process.poll() is not None:
            log = logs / f"{service.name}.log"
            raise InputError(f"{service.name} ended with exit code {process.returncode}", file=log, mend="see its log")


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    """Stop the last started first, so that workers can still report what becomes of their runs."""
    for process in reversed(running):
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
