"""StopRequest: the first SIGTERM or SIGINT is kept until the running step is done, so that no work is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

_NOTE = b"Stops after this step, with a resume point; a second signal stops at once.\n"
# Supervisors signal the process and its group, and torch's launcher passes on what it got: that is one request.
_SAME_REQUEST = 2.0  # seconds


class StopRequest:
    """Keeps the first SIGTERM or SIGINT that comes inside the ``with`` block; one two seconds later interrupts at once.

    A signal that the process ignores stays ignored. Outside the main thread nothing is kept, because only that thread
    gets signals. ``made`` says whether one has come.
    """

    def __init__(self) -> None:
        self.made = False
        self._since = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if self.made:
            if time.monotonic() - self._since > _SAME_REQUEST:
                raise KeyboardInterrupt
            return
        self.made, self._since = True, time.monotonic()
        # Print may be what the signal interrupted.
        os.write(2, _NOTE)


def leave_process_group(_worker: int) -> None:
    """Start a loader's helper outside the process group, whose signals are meant for the training.

    A terminal's Ctrl-C and a supervisor's SIGTERM go to the whole group, and a training whose helpers are gone cannot
    finish its step. Helpers end with the training all the same: they watch it.
    """
    os.setpgrp()
