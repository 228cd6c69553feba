"""Scratch folders go when their stage has finished, and a stage runs once at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regionclip.checkpoints.scratch import alone, clean_scratch, scratch_folder
from regionclip.errors import InputError
from regionclip.runtime import SCRATCH


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_clean_takes_its_own_folder_only() -> None:
    """The resume points of the same stage with other params, and of other stages, stay."""
    folders = [scratch_folder(*name) for name in (("rpn", "a" * 64), ("rpn", "b" * 64), ("teacher", "a" * 64))]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "state").write_text("x")
    clean_scratch(folders[0])
    assert [folder.exists() for folder in folders] == [False, True, True]
    clean_scratch(folders[1])
    clean_scratch(scratch_folder("none", "a" * 64))
    assert [path.name for path in SCRATCH.iterdir()] == ["teacher"]


HOLD = """
import os, sys, time
from regionclip.checkpoints.scratch import alone
with alone("teacher"):
    if os.fork() == 0:
        time.sleep(60)  # a helper that outlives its stage
        os._exit(0)
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_stage_that_runs_is_refused_by_the_name_of_its_process(end: str) -> None:
    """Until the process that runs it ends, however it does, and whatever it has started; other stages are free."""
    command = [sys.executable, "-c", HOLD]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as holder:
        assert holder.stdout.readline() == f"{holder.pid}\n"
        with pytest.raises(InputError, match=f"teacher runs already: process {holder.pid} on .*since 20") as caught:
            alone("teacher").__enter__()
        assert caught.value.exit_code == 2 and "stop it" in caught.value.mend
        with alone("rpn"):
            pass
        holder.stdin.close() if end == "ends" else holder.kill()
        holder.wait()
        with alone("teacher"):
            pass
        os.killpg(holder.pid, signal.SIGKILL)
