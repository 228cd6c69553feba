"""A training that is told to stop, or whose numbers are none, ends; it goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recovery.conftest import ONE_MACHINE

STEP = 0.1  # seconds


@pytest.mark.parametrize(("workers", "whole_group"), [("0", False), pytest.param("2", True, marks=pytest.mark.slow)])
def test_sigterm_saves_the_running_step(
    start: Callable,
    fit: Callable,
    resume_points: Callable,
    assert_whole: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: str,
    whole_group: bool,
) -> None:
    """To the process alone, or to its group as a supervisor or a terminal does, with loader's helpers in it.

    The time from the signal to the end is far within the two minutes or 30 seconds that spot machines give.
    """
    monkeypatch.setenv("REGIONCLIP_WORKERS", workers)
    training = start(tmp_path / "run", STEP)
    training.wait_for_step(3)
    sent = time.monotonic()
    (os.killpg if whole_group else os.kill)(training.process.pid, signal.SIGTERM)
    code, errors = training.end()
    assert code == 4, errors[-3000:]
    assert time.monotonic() - sent < 20
    assert resume_points(tmp_path / "run") == [training.steps()] and training.steps() < 40
    assert not (tmp_path / "run/weight.pt").exists()
    assert "a second signal stops at once" in errors and "Traceback" not in errors
    fit(tmp_path / "run")
    assert_whole(tmp_path / "run")


def test_second_signal_stops_at_once(start: Callable, resume_points: Callable, tmp_path: Path) -> None:
    """In the middle of a step of five minutes; there is no resume point."""
    training = start(tmp_path / "run", 300.0)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/scratch/history.jsonl").exists():
        assert training.process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    training.process.send_signal(signal.SIGINT)
    # Signals within two seconds count as one.
    time.sleep(4)
    assert training.process.poll() is None
    training.process.send_signal(signal.SIGTERM)
    assert training.end()[0] == 4 and resume_points(tmp_path / "run") == []


@pytest.mark.slow  # two processes train as one in tests/distributed
def test_signal_to_one_of_two_processes_stops_both_at_the_same_step(
    start: Callable, fit: Callable, resume_points: Callable, assert_whole: Callable, tmp_path: Path
) -> None:
    """The second gets it, the first writes the resume point; one process goes on with what two began."""
    training = start(tmp_path / "run", STEP, *ONE_MACHINE)
    training.wait_for_step(3)
    os.kill(training.ranks()[1], signal.SIGTERM)
    _, errors = training.end()
    # The batch of two is one point for each process.
    assert resume_points(tmp_path / "run") == [training.steps()] and 3 <= training.steps() < 40, errors[-3000:]
    assert "exitcode  : 4" in errors and "Traceback" not in errors.split("ChildFailedError")[0].split("torch/")[0]
    fit(tmp_path / "run")
    assert_whole(tmp_path / "run", rel=1e-5)


# test_elastic.py kills one of two as well: there too the other is ended, and two go on from the regular resume point.
@pytest.mark.slow
def test_killed_process_ends_the_other_and_a_rerun_resumes(
    start: Callable,
    resume_points: Callable,
    assert_whole: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL, as of a machine without memory: the last regular resume point, taken up by two processes."""
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "4")
    training = start(tmp_path / "run", STEP, *ONE_MACHINE)
    training.wait_for_step(9)
    first, second = training.ranks()
    os.kill(second, signal.SIGKILL)
    code, errors = training.end()
    assert code != 0 and "Signal 9 (SIGKILL)" in errors
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert resume_points(tmp_path / "run")[-1] >= 8 and not (tmp_path / "run/weight.pt").exists()
    again = start(tmp_path / "run", 0.0, *ONE_MACHINE)
    code, errors = again.end()
    assert code == 0, errors[-3000:]
    assert_whole(tmp_path / "run", rel=1e-5)


@pytest.mark.slow  # of one process: tests/engine/test_sound_numbers.py
def test_number_that_is_none_in_one_of_two_processes_stops_both(
    start: Callable, fit: Callable, resume_points: Callable, assert_whole: Callable, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """At the look before the same resume point, with the exit code of wrong input; what is kept is sound."""
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "4")
    code, errors = start(tmp_path / "run", 0.0, *ONE_MACHINE, bad=10).end()
    assert code != 0 and errors.count("the loss 'loss_fit' is not finite since step 10") == 2, errors[-3000:]
    # The launcher may end the other before it has ended by itself.
    assert "exitcode  : 2" in errors and resume_points(tmp_path / "run") == [4, 8]
    assert not (tmp_path / "run/weight.pt").exists()
    fit(tmp_path / "run")
    assert_whole(tmp_path / "run", rel=1e-5)
