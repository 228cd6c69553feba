"""Scratch: resumable state in folders named by a digest of what decides a stage's result, and a lock for each stage."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from regionclip.errors import InputError
from regionclip.runtime import SCRATCH

_LETTERS = 16  # of the digest, in folder names


def scratch_folder(stage: str, digest: str) -> Path:
    """Return the folder for a stage's resumable state; it is not created here."""
    return SCRATCH / stage / digest[:_LETTERS]


def clean_scratch(folder: Path) -> None:
    """Remove the scratch folder of a stage that has finished.

    Those of other digests are left to maintenance: another checkout may share them, and go on from them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


@contextmanager
def alone(stage: str) -> Iterator[None]:
    """Keep other processes from running a stage as long as the block lasts; the end of this one ends its hold.

    Raises:
        InputError: The stage runs already; names its process.
    """
    file = SCRATCH / "locks" / f"{stage}.run"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as handle:
        try:
            # Of the two kinds of locks the one that a loader's helpers do not inherit: they may outlive the stage.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                mend = "wait for its end, or stop it, and run the stage again"
                raise InputError(f"the stage {stage} runs already: {holder}", file=file, mend=mend) from None
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            logging.getLogger(__name__).warning("%s: this disk knows no locks; run each stage once at a time.", file)
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n")
        handle.flush()
        yield
