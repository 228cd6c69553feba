"""Runs one command so that it stops with whoever started it: `python supervise.py LOCK COMMAND...`; no imports of ours.

SIGTERM, or the death of the parent, becomes the interrupt of a terminal, sent once to the whole process group. DVC
ignores it while a stage's command runs, where SIGTERM would kill DVC and leave the command behind; the command stops at
a point it can resume from. What still runs after the grace period is killed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys

GRACE_SECONDS = 60
INTERRUPTED = 4  # the exit code of a stage that can be resumed
_PR_SET_PDEATHSIG = 1


def main(lock: str, command: list[str]) -> int:
    """Run ``command`` while holding the file ``lock``, as the leader of a process group; return its exit code.

    The lock keeps a retry out until what a killed run left behind has ended; DVC's own lock would refuse it instead.
    """
    running: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if running is None else lambda *_: None)
        if running is None:
            sys.exit(INTERRUPTED)
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
        signal.alarm(GRACE_SECONDS)
        os.killpg(0, signal.SIGINT)

    # Handlers, not SIG_IGN: that would be passed on to the command.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, stop)
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
    fcntl.flock(handle, fcntl.LOCK_EX)
    if os.getppid() != parent:
        return INTERRUPTED
    # DVC inherits the lock, and that of the checkout, so that they outlive a kill of this process.
    os.set_inheritable(handle, True)
    running = subprocess.Popen(command, close_fds=False)
    code = running.wait()
    if code < 0:
        # The command itself was killed; what it had started is not to go on unseen.
        signal.signal(signal.SIGTERM, lambda *_: None)
        os.killpg(0, signal.SIGTERM)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
