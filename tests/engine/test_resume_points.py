"""The newest whole resume point is taken, damaged ones are told, and nothing is written in place."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
import torch

from regionclip.checkpoints.training_state import register_safe_loader
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
    assert "iter_6.pth: the checkpoint is damaged" in caplog.text and "before it is taken" in caplog.text


def test_one_that_could_run_code_is_refused(tmp_path: Path) -> None:
    """It is not passed over, because no training of ours writes it."""
    _write(tmp_path, 4)
    torch.save({"state_dict": {}, "meta": os.system}, _path(tmp_path, 6))
    with pytest.raises(InputError, match="type that is not allowed"):
        newest_resume_point(tmp_path)


def test_what_a_killed_writing_left_is_removed(tmp_path: Path) -> None:
    _write(tmp_path, 4)
    (tmp_path / ".iter_6.pth.abcd.pth").write_bytes(b"half")
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
