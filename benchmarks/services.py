"""The servers of `make serve` without workers, and programs that are their clients, for benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from flows.local import HOST, ROOT, START_SECONDS, STOP_SECONDS, Service, services

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "DVC_NO_ANALYTICS": "1",
    "DVC_STUDIO_OFFLINE": "true",
}


@contextmanager
def serving(root: Path) -> Iterator[tuple[dict[str, str], dict[str, float]]]:
    """Run MLflow and Prefect as `make serve` does, without workers; give clients' environment and seconds of start."""
    (root / "mlruns").mkdir(parents=True, exist_ok=True)
    wanted, environment = services(root, _free_port(), _free_port())
    seconds = {}
    with ExitStack() as stack:
        for service in wanted:
            if service.address is not None:
                begin = time.perf_counter()
                stack.enter_context(_served(service, root, environment))
                seconds[service.name] = time.perf_counter() - begin
        yield environment, seconds


@contextmanager
def _served(service: Service, root: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a service from the moment it answers to the end of the block."""
    with (root / f"{service.name}.log").open("wb") as log:
        process = subprocess.Popen(
            service.command, cwd=root, env=environment_of(environment), stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(str(service.address)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{service.name} does not start: {(root / f'{service.name}.log').read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: this one's without settings of the pipeline, and ``settings``."""
    ours = ("REGIONCLIP_", "MLFLOW_", "DVC_", "PREFECT_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept | QUIET | {"PATH": path, "PYTHONPATH": str(ROOT)} | dict(settings)


def run(command: list[str], folder: Path, settings: Mapping[str, str]) -> None:
    """Run a program in a folder to its good end.

    Raises:
        RuntimeError: It ended otherwise; with the end of its output.
    """
    # The checkout that runs is the chain, not that of a worker.
    settings = {key: value for key, value in settings.items() if key != "REGIONCLIP_WORKSPACE"}
    done = subprocess.run(
        command, cwd=folder, env=environment_of(settings), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
