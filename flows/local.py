"""Runs services on this machine's loopback: MLflow, Prefect, a worker for each pool; `make serve`, `make mlflow`.

Their state is mlruns/ and .prefect/, their output .prefect/logs/. Ctrl-C stops them all. Who calls a server has to log
in with .prefect/login; while Prefect runs, prefect.toml tells it to Prefect's commands in this folder.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from flows.deploy import POOLS
from flows.doors import MLFLOW_HOSTS, PREFECT_HOSTS
from regionclip.errors import InputError
from regionclip.files import write_text

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
START_SECONDS = 300.0
STOP_SECONDS = 40.0  # a worker gives its runs 30 seconds
USER, LOGIN = "regionclip", Path(".prefect/login")
CLIENT = Path("prefect.toml")
_OURS = "# Written by `make serve`, removed when it ends."


class Service(NamedTuple):
    """A program that runs until it is stopped; ``address`` answers with 200 once it is up, if somebody waits for it."""

    name: str
    command: tuple[str, ...]
    address: str | None = None


def services(root: Path, mlflow_port: int, prefect_port: int) -> tuple[list[Service], dict[str, str]]:
    """Return the services in their order of start, and the environment that makes clients of them."""
    programs, secret = Path(sys.executable).parent, _login(root)
    server = (str(programs / "uvicorn"), "--factory", "--log-level", "warning", "--host", HOST, "--port")
    worker = (str(programs / "prefect"), "worker", "start", "--type", "process", "--pool")
    mlflow_url, prefect_url = f"http://{HOST}:{mlflow_port}", f"http://{HOST}:{prefect_port}"
    serving = [
        Service("mlflow", (*server, str(mlflow_port), "flows.doors:mlflow"), f"{mlflow_url}/health"),
        Service("prefect", (*server, str(prefect_port), "flows.doors:prefect"), f"{prefect_url}/api/health"),
    ]
    serving += [Service(f"worker-{pool}", (*worker, pool)) for pool in POOLS]
    environment = {
        "MLFLOW_TRACKING_URI": mlflow_url,
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": secret,
        MLFLOW_HOSTS: f"{HOST}:{mlflow_port},localhost:{mlflow_port}",
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{secret}",
        "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{secret}",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{prefect_url},http://localhost:{prefect_port}",
        PREFECT_HOSTS: f"{HOST}:{prefect_port},localhost:{prefect_port}",
        "PREFECT_HOME": str(root / ".prefect"),
        # Of a client that was refused a slot; by default up to 30, in which a free GPU would wait for its next stage.
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
        "REGIONCLIP_WORKSPACE": str(root),
    }
    return serving, environment


def serve(
    root: Path, mlflow_port: int, prefect_port: int, stop: threading.Event, only: Collection[str] | None = None
) -> None:
    """Start the services, or only those of some names, and stop them when ``stop`` is set or one of them ends.

    Raises:
        InputError: A port is taken, or a service does not come up or ends by itself.
    """
    for name, port in (("mlflow", mlflow_port), ("prefect", prefect_port)):
        with socket.socket() as probe:
            if (only is None or name in only) and probe.connect_ex((HOST, port)) == 0:
                raise InputError(
                    f"port {port} of {HOST} is taken", mend="stop what listens there, or give another port"
                )
    wanted, environment = services(root, mlflow_port, prefect_port)
    wanted = [service for service in wanted if only is None or service.name in only]
    names = [service.name for service in wanted]
    logs = root / ".prefect/logs"
    logs.mkdir(exist_ok=True)
    running: dict[Service, subprocess.Popen[bytes]] = {}
    with ExitStack() as at_the_end:
        if "prefect" in names:
            _tell_clients(root, environment)
            at_the_end.callback((root / CLIENT).unlink, missing_ok=True)
        # The last started stops first, so that workers can still report what becomes of their runs.
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
            at_the_end.callback(_stop, running[service])
            _wait_until_up(service, running, logs, stop)
        if not stop.is_set():
            addresses = {"mlflow": environment["MLFLOW_TRACKING_URI"], "prefect": environment["PREFECT_API_URL"][:-4]}
            for name in filter(addresses.get, names):
                print(f"{name:<9}{addresses[name]}")
            place = logs.relative_to(root)
            print(f"log in as the one line of {LOGIN} says; logs in {place}/; Ctrl-C stops", flush=True)
        while not stop.wait(1):
            _refuse_ended(running, logs)


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.local", description=__doc__)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    parser.add_argument("--prefect-port", type=int, default=4200)
    parser.add_argument("only", nargs="*", help="names of services; all, where none is given")
    chosen, stop = parser.parse_args(), threading.Event()
    # A handler also for SIGINT: were it ignored, as in a shell's background, workers would inherit that and not stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(ROOT, chosen.mlflow_port, chosen.prefect_port, stop, chosen.only or None)
    except InputError as error:
        print(f"serve: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _login(root: Path) -> str:
    """Return the password of .prefect/login, made where there is none; nobody else may look into the folder."""
    file = root / LOGIN
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    if not file.exists():
        write_text(file, f"{USER}:{secrets.token_urlsafe(32)}\n")
    file.chmod(0o600)
    user, _, password = file.read_text(encoding="utf-8").strip().partition(":")
    if user != USER or not password:
        raise InputError(f"it is not {USER}:PASSWORD", file=file, mend="remove it, and a new one is made")
    return password


def _tell_clients(root: Path, environment: Mapping[str, str]) -> None:
    file = root / CLIENT
    if file.exists() and not file.read_text(encoding="utf-8").startswith(_OURS):
        raise InputError("it would be overwritten", file=file, mend="move it to ~/.prefect or into the environment")
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as text:
        print(_OURS, "[api]", sep="\n", file=text)
        for key in ("url", "auth_string"):
            print(f'{key} = "{environment[f"PREFECT_API_{key.upper()}"]}"', file=text)


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
                problem = f"{service.name} is not up after {START_SECONDS:.0f} s"
                raise InputError(problem, file=logs / f"{service.name}.log") from None


def _refuse_ended(running: dict[Service, subprocess.Popen[bytes]], logs: Path) -> None:
    for service, process in running.items():
        if process.poll() is not None:
            log = logs / f"{service.name}.log"
            raise InputError(f"{service.name} ended with exit code {process.returncode}", file=log, mend="see its log")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
