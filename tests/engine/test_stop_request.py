"""The first signal is kept, the second interrupts, and afterwards all is as it was."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from regionclip.engine import stop_request
from regionclip.engine.stop_request import StopRequest

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Handlers as a terminal's program has them; pytest-xdist ignores SIGINT."""
    before = [signal.signal(number, signal.default_int_handler) for number in NUMBERS]
    yield
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


def _send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", NUMBERS)
def test_first_signal_is_kept_and_said(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with StopRequest() as stop:
        assert not stop.made
        _send(number)
        assert stop.made
    assert "after this step" in capfd.readouterr().err


def test_second_signal_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not one that comes with the first, as from a supervisor and from torch's launcher."""
    seconds = iter([100.0, 101.9, 102.1])
    monkeypatch.setattr(stop_request.time, "monotonic", lambda: next(seconds))
    with pytest.raises(KeyboardInterrupt), StopRequest():
        _send(signal.SIGTERM)
        _send(signal.SIGTERM)
        kept_so_far = True
        _send(signal.SIGINT)
    assert kept_so_far


def test_handlers_are_put_back() -> None:
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) is not signal.default_int_handler
    assert [signal.getsignal(number) for number in NUMBERS] == [signal.default_int_handler] * 2
    with pytest.raises(KeyboardInterrupt):
        _send(signal.SIGTERM)


def test_ignored_signal_stays_ignored() -> None:
    """A shell's background jobs ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopRequest() as stop:
        _send(signal.SIGINT)
        assert not stop.made and signal.getsignal(signal.SIGTERM) is not signal.default_int_handler


def test_other_threads_may_train() -> None:
    """Python sets handlers in the main thread only."""
    made: list[bool] = []

    def body() -> None:
        with StopRequest() as stop:
            made.append(stop.made)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert made == [False] and signal.getsignal(signal.SIGTERM) is signal.default_int_handler
