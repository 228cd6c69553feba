"""A training in a process of its own, or in two, that tests stop in the middle."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

PROGRAM = Path(__file__).with_name("slope.py")
ITERATIONS = 40
ONE_MACHINE = ("--standalone", "--nproc_per_node=2")


class Training:
    """The program in the folder ``out``, in one process or, with arguments for it, under torch's launcher."""

    def __init__(self, out: Path, seconds: float, *torchrun: str, bad: int = 0) -> None:
        self.out = out
        launcher = ("-m", "torch.distributed.run", *torchrun) if torchrun else ()
        command = [sys.executable, *launcher, str(PROGRAM), str(out), str(ITERATIONS), str(seconds), str(bad)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def ranks(self) -> list[int]:
        """Return the processes that the launcher started, in the order of their ranks."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = {}
        for pid in map(int, children):
            settings = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            found |= {int(item.removeprefix(b"RANK=")): pid for item in settings if item.startswith(b"RANK=")}
        return [found[rank] for rank in sorted(found)]

    def wait_for_step(self, step: int) -> None:
        """Wait until a step is done."""
        deadline = time.monotonic() + 120
        while self.steps() < step:
            assert self.process.poll() is None, self.process.communicate()[1][-3000:]
            assert time.monotonic() < deadline, "the training does not move"
            time.sleep(0.02)

    def steps(self) -> int:
        """Return how many steps the growing history has."""
        history = self.out / "scratch/history.jsonl"
        return history.read_text().count("\n") if history.exists() else 0

    def end(self) -> tuple[int, str]:
        """Wait for the end; return exit code and what was printed as an error."""
        errors = self.process.communicate(timeout=120)[1]
        return self.process.returncode, errors

    def kill(self) -> None:
        """Kill what still runs."""
        if self.process.poll() is None:
            for pid in (*self.ranks(), self.process.pid):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, on the CPU, no loader's helpers; resume points only where a test wants them."""
    for name in [key for key in os.environ if key.startswith("REGIONCLIP_")]:
        monkeypatch.delenv(name)
    settings = {"DEVICE": "cpu", "WORKERS": "0", "CHECKPOINT_INTERVAL": "1000"}
    for name, value in settings.items():
        monkeypatch.setenv(f"REGIONCLIP_{name}", value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")


@pytest.fixture
def start() -> Iterator[Callable[..., Training]]:
    """A function that starts the program; what still runs at the end is killed."""
    started: list[Training] = []

    def run(*arguments: Any, **more: Any) -> Training:
        started.append(Training(*arguments, **more))
        return started[-1]

    yield run
    for training in started:
        training.kill()


@pytest.fixture
def fit() -> Callable[..., Any]:
    """A function that trains in a folder by this process."""
    function = runpy.run_path(str(PROGRAM))["fit"]
    return lambda out, **more: function(out, ITERATIONS, **more)


@pytest.fixture
def resume_points() -> Callable[[Path], list[int]]:
    """A function that returns the iterations of the resume points in a folder."""
    return lambda out: sorted(int(path.stem.removeprefix("iter_")) for path in (out / "scratch").glob("iter_*.pth"))


@pytest.fixture
def assert_whole(fit: Callable[..., Any], tmp_path: Path) -> Callable[..., None]:
    """A function that compares weights and history in a folder with a training that nobody stopped."""

    def check(out: Path, rel: float = 0.0) -> None:
        fit(tmp_path / "whole")
        one, other = (torch.load(folder / "weight.pt", weights_only=True) for folder in (out, tmp_path / "whole"))
        torch.testing.assert_close(one, other, rtol=rel, atol=rel)
        ours, theirs = (
            [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
            for folder in (out, tmp_path / "whole")
        )
        assert [line["step"] for line in ours] == list(range(1, ITERATIONS + 1))
        for line, expected in zip(ours, theirs, strict=True):
            assert line == pytest.approx(expected, rel=rel, abs=rel)

    return check
