"""The newest whole resume point is taken, damaged ones are told, and nothing is written in place."""

from __future__ import annotations

import errno
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.checkpoints.mmengine_files import register_safe_loader
from regionclip.engine.resume_points import AtomicLocalBackend, newest_resume_point
from regionclip.errors import InputError

register_safe_loader()


def _write(folder: Path, *iterations: int) -> None:
    for iteration in iterations:
        torch.save({"state_dict": {"weight": torch.ones(1000)}, "meta": {"iter": iteration}}, _path(folder, iteration))


def _path(folder: Path, iteration: int) -> Path:
    return folder / f"iter_{iteration}.pth"


def test_newest_by_number_not_by_name(tmp_path: Path) -> None:
    _write(tmp_path, 9, 10, 8)
    assert newest_resume_point(tmp_path) == _path(tmp_path, 10)


def test_none_in_a_new_folder(tmp_path: Path) -> None:
    assert newest_resume_point(tmp_path) is None


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_cut_one_is_told_and_the_one_before_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: float
) -> None:
    _write(tmp_path, 4, 6)
    content = _path(tmp_path, 6).read_bytes()
    _path(tmp_path, 6).write_bytes(content[: int(left * len(content))])
    with caplog.at_level(logging.WARNING):
        assert newest_resume_point(tmp_path) == _path(tmp_path, 4)
    assert "iter_6.pth: damaged, cut short" in caplog.text and "before it is taken" in caplog.text


def test_one_that_could_run_code_is_refused(tmp_path: Path) -> None:
    """It is not passed over, because no training of ours writes it."""
    _write(tmp_path, 4)
    torch.save({"state_dict": {}, "meta": os.system}, _path(tmp_path, 6))
    with pytest.raises(InputError, match="could run code"):
        newest_resume_point(tmp_path)


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_one_is_never_taken_for_other_numbers(tmp_path: Path, data: st.DataObject) -> None:
    """Zeros, a cut, a bit, at any place: it is passed over, or its content is as written; never another error."""
    _write(tmp_path, 4, 6)
    content = bytearray(_path(tmp_path, 6).read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["bit", "zeros", "cut", "all zeros"]))
    if kind == "bit":
        content[where] ^= 1 << data.draw(st.integers(0, 7))
    else:
        end = min(where + data.draw(st.integers(1, 4096)), len(content))
        start, end = (0, len(content)) if kind == "all zeros" else (where, end)
        content[start:end] = b"" if kind == "cut" else bytes(end - start)
    _path(tmp_path, 6).write_bytes(content)
    found = newest_resume_point(tmp_path)
    if found == _path(tmp_path, 6):
        left = torch.load(found, weights_only=True)
        assert torch.equal(left["state_dict"]["weight"], torch.ones(1000)) and left["meta"] == {"iter": 6}
    else:
        assert found == _path(tmp_path, 4)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_one_of_numbers_that_are_none_is_told_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: float
) -> None:
    """As an earlier version left them."""
    _write(tmp_path, 4)
    torch.save({"state_dict": {"weight": torch.tensor([0.0, bad])}, "meta": {"iter": 6}}, _path(tmp_path, 6))
    with caplog.at_level(logging.WARNING):
        assert newest_resume_point(tmp_path) == _path(tmp_path, 4)
    assert "iter_6.pth holds no weights, or such as are not finite" in caplog.text


def test_what_a_killed_writing_left_is_removed(tmp_path: Path) -> None:
    _write(tmp_path, 4)
    program = "import os, sys, regionclip.files as f; w = f.atomic_path(sys.argv[1]); w.__enter__(); os._exit(9)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "iter_6.pth")], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    newest_resume_point(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["iter_4.pth"]


def test_failed_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "iter_4.pth"
    AtomicLocalBackend().put(b"old", file)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        AtomicLocalBackend().put(b"new", file)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]
