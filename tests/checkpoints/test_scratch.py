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


def test_clean_takes_its_own_folder_only(tmp_path: Path) -> None:
    """The resume points of the same stage with other params, and of other stages, stay."""
    folders = [
        scratch_folder(*name, root=tmp_path) for name in (("rpn", "a" * 64), ("rpn", "b" * 64), ("teacher", "a" * 64))
    ]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "state").write_text("x")
    clean_scratch(folders[0])
    assert [folder.exists() for folder in folders] == [False, True, True]
    clean_scratch(folders[1])
    clean_scratch(scratch_folder("none", "a" * 64, root=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


HOLD = """
import os, sys, time
from pathlib import Path
from regionclip.checkpoints.scratch import alone
with alone("teacher", Path(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(60)  # a helper that outlives its stage
        os._exit(0)
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_stage_that_runs_is_refused_by_the_name_of_its_process(tmp_path: Path, end: str) -> None:
    """Until the process that runs it ends, however it does, and whatever it has started; other stages are free."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as holder:
        assert holder.stdout.readline() == f"{holder.pid}\n"
        with pytest.raises(InputError, match=f"teacher runs already: process {holder.pid} on .*since 20") as caught:
            alone("teacher", tmp_path).__enter__()
        assert caught.value.exit_code == 2 and "stop it" in caught.value.mend
        with alone("rpn", tmp_path):
            pass
        holder.stdin.close() if end == "ends" else holder.kill()
        holder.wait()
        with alone("teacher", tmp_path):
            pass
        os.killpg(holder.pid, signal.SIGKILL)
