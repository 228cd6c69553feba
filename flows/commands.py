"""Commands of a flow run: each in a process group of its own, its output in the run's log, all stopped together."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefect import get_run_logger

from flows import supervise
from regionclip.errors import printable

LOCKS = Path(".scratch/locks")

_running: set[subprocess.Popen[str]] = set()
_held: list[int] = []  # locks that what this process started shares
_guard = threading.Lock()
stopping = threading.Event()


def run(
    command: Sequence[str], *, root: Path, lock: str, settings: Mapping[str, str], log: Callable[[str], None]
) -> tuple[int, list[str]]:
    """Run a command to its end.

    Args:
        command: Program and arguments; programs beside this Python come first.
        root: Folder to run it in; Python code there comes before what is installed.
        lock: Name; two commands of one name in one folder wait for each other, also across flow runs.
        settings: Added to the environment.
        log: Takes each line of output as it comes.

    Returns:
        Exit code, and the last lines of output.

    Raises:
        RuntimeError: The flow run is being stopped, so nothing is started.
    """
    (root / LOCKS).mkdir(parents=True, exist_ok=True)
    supervised = [sys.executable, "-I", "-S", supervise.__file__, str(root / LOCKS / lock), *command]
    with _guard:
        if stopping.is_set():
            raise RuntimeError("not started, because the flow run is being stopped")
        process = subprocess.Popen(
            supervised,
            cwd=root,
            env=environment(root) | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=_held,
        )
        _running.add(process)
    tail: list[str] = []
    try:
        for line in process.stdout or ():
            if text := printable(line.rstrip()):
                log(text)
                tail = [*tail[-29:], text]
        return process.wait(), tail
    finally:
        with _guard:
            _running.discard(process)


def dvc(root: Path, *arguments: str) -> None:
    """Run a command of DVC that belongs to no stage, such as ``pull``; two of one name wait for each other.

    Raises:
        RuntimeError: It failed; with its last line.
    """
    command, log = ["dvc", "--wait-for-lock", *arguments], get_run_logger().info
    code, tail = run(command, root=root, lock=arguments[0], settings={}, log=log)
    if code:
        raise RuntimeError(f"dvc {arguments[0]} failed: {tail[-1] if tail else code}")


@contextmanager
def alone_in(root: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Keep other pipeline runs out of a checkout; wait while one, or what a killed one left, is in it."""
    (root / LOCKS).mkdir(parents=True, exist_ok=True)
    with (root / LOCKS / "pipeline").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"Waiting for another pipeline run in {root} to end.")
            fcntl.flock(handle, fcntl.LOCK_EX)
        _held.append(handle.fileno())
        try:
            yield
        finally:
            _held.remove(handle.fileno())


@contextmanager
def stopped_together() -> Iterator[None]:
    """Stop all commands when an exception leaves the block, Prefect's termination signal too, and wait for their end.

    Each has a grace period to reach a point it can resume from; no other is started.
    """
    stopping.clear()
    try:
        yield
    except BaseException:
        with _guard:
            stopping.set()
            left = list(_running)
        for process in left:
            process.terminate()
        for process in left:
            process.wait()
        raise


def environment(root: Path) -> dict[str, str]:
    """Return the environment of commands in ``root``: this Python's programs, the code of that folder."""
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ) | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
    }
