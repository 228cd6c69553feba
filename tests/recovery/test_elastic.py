"""torch's elastic launcher: what dies is started again, or done without, and the training goes on."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recovery.conftest import ONE_MACHINE

pytestmark = pytest.mark.slow  # launchers that start twice; test_signals.py stops one of two, and one goes on
STEP = 0.1  # seconds


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "4")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # as regionclip.engine.launch sets it


@pytest.fixture
def two_machines() -> Callable[..., tuple[str, ...]]:
    """A function that returns the launcher's arguments on each of two machines, here two launchers of this one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def arguments(nodes: str, *more: str) -> tuple[str, ...]:
        meeting = ("--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}", "--rdzv_id=slope")
        return (f"--nnodes={nodes}", "--nproc_per_node=1", *meeting, *more)

    return arguments


def test_launcher_starts_a_killed_process_again(start: Callable, assert_whole: Callable, tmp_path: Path) -> None:
    training = start(tmp_path / "run", STEP, *ONE_MACHINE, "--max_restarts=1")
    training.wait_for_step(9)
    os.kill(training.ranks()[1], signal.SIGKILL)
    code, errors = training.end()
    assert code == 0, errors
    assert_whole(tmp_path / "run", rel=1e-5)


def test_two_machines_train_as_one(
    start: Callable, two_machines: Callable, assert_whole: Callable, tmp_path: Path
) -> None:
    machines = [start(tmp_path / "run", 0.0, *two_machines("2")) for _ in range(2)]
    for machine in machines:
        code, errors = machine.end()
        assert code == 0, errors
    assert_whole(tmp_path / "run", rel=1e-5)


# The launcher waits for 30 seconds whether the other machine comes back.
def test_training_goes_on_without_the_machine_that_left(
    start: Callable, two_machines: Callable, assert_whole: Callable, tmp_path: Path
) -> None:
    arguments = two_machines("1:2", "--max_restarts=3")
    stays = start(tmp_path / "run", STEP, *arguments)  # its launcher is the meeting place
    while not _listens(arguments):
        assert stays.process.poll() is None
        time.sleep(0.05)
    leaves = start(tmp_path / "run", STEP, *arguments)
    stays.wait_for_step(9)
    assert len(stays.ranks()) == len(leaves.ranks()) == 1, "both machines train"
    leaves.kill()
    code, errors = stays.end()
    assert code == 0, errors
    assert_whole(tmp_path / "run", rel=1e-5)


def _listens(arguments: tuple[str, ...]) -> bool:
    [port] = [item.rpartition(":")[2] for item in arguments if item.startswith("--rdzv_endpoint")]
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0
