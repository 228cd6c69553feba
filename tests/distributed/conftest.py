"""Process groups for tests: a program under torch's launcher, on the CPU, which ends with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """One thread a process, on the CPU, no loader's helpers, no network."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("REGIONCLIP_", "MLFLOW_"))}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "REGIONCLIP_DEVICE": "cpu",
        "REGIONCLIP_WORKERS": "0",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture
def launch(environment: dict[str, str]) -> Iterator[Launch]:
    """A function that starts a program in two processes; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *arguments]
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(
                command, env=environment | settings, stdout=pipe, stderr=pipe, text=True, start_new_session=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            # The launcher ends its processes, which have sessions of their own.
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
