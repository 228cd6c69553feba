"""A disk that is full when a resume point is written: the training says so, nothing is lost, and a rerun goes on."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

from regionclip.errors import InputError


class Before(Hook):
    """Calls a function before an iteration."""

    priority = "LOWEST"

    def __init__(self, iteration: int, function: Callable[[], Any]) -> None:
        self.iteration, self.function = iteration, function

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Call it."""
        if runner.iter == self.iteration:
            self.function()


@pytest.fixture(autouse=True)
def _every_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "10")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB; a resume point takes 1.2."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def limit() -> Iterator[Callable[[], None]]:
    """A function that limits the size of this process's files to 100 kB until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _fill(disk: Path) -> None:
    """Fill the disk, but for less than a resume point, in steps of 64 kB."""
    with (disk / "filler").open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free > 500_000:
            file.write(bytes(65_536))


def _check_stopped(error: InputError, out: Path, resume_points: Callable) -> None:
    assert Path(error.file) == out / "scratch" and "make room there and run it again" in str(error)
    assert error.exit_code != 0 and resume_points(out) == [10]
    assert not list((out / "scratch").glob(".iter_*")) and not (out / "weight.pt").exists()


def test_full_disk_stops_the_training_and_a_rerun_goes_on(
    fit: Callable, resume_points: Callable, assert_whole: Callable, small_disk: Path
) -> None:
    """Before the second resume point the disk fills; afterwards there is room again."""
    out = small_disk / "run"
    with pytest.raises(InputError, match="the disk takes no more") as caught:
        fit(out, hooks=[Before(15, lambda: _fill(small_disk))])
    _check_stopped(caught.value, out, resume_points)
    (small_disk / "filler").unlink()
    fit(out)
    assert_whole(out)


def test_limit_on_file_sizes_is_a_full_disk(
    fit: Callable, resume_points: Callable, assert_whole: Callable, tmp_path: Path, limit: Callable[[], None]
) -> None:
    """Where nothing can be mounted: a quota."""
    out = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(InputError, match="the disk takes no more") as caught:
        fit(out, hooks=[Before(15, limit)])
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    _check_stopped(caught.value, out, resume_points)
    fit(out)
    assert_whole(out)
