"""A killed writing of a region store goes on behind its last whole shard and ends in the bytes of an unbroken one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regionclip.errors import InputError
from regionclip.files import sha256_tree
from regionclip.regions.store import RegionStore, RegionStoreWriter

ROWS = 4


def boxes(image_id: int) -> np.ndarray:
    """As many boxes as the id modulo 3."""
    return np.array([[0, 0, 1 + image_id, 2]] * (image_id % 3), np.float32).reshape(-1, 4)


def write(path: Path, ids: range, partial: Path | None = None, stop: int | None = None, **metadata: str) -> list[int]:
    """Write the images that are not there; kill the process at image ``stop``; return the ids that were given."""
    given = []
    with RegionStoreWriter(path, {"teacher": "a"} | metadata, shard_rows=ROWS, partial=partial) as writer:
        for image_id in ids:
            if image_id == stop:
                os.kill(os.getpid(), signal.SIGKILL)
            if image_id not in writer:
                writer.add(image_id, boxes(image_id), np.zeros(image_id % 3))
                given.append(image_id)
    return given


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The partial folder that a process left which was killed at image 10: two whole shards of four."""
    code = (
        "from test_store_writer import *; import sys; write(Path(sys.argv[1]), range(14), Path(sys.argv[2]), stop=10)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store"), str(tmp_path / "partial")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "store").exists()
    return tmp_path / "partial"


def test_a_killed_writing_goes_on_behind_the_last_whole_shard(killed, tmp_path, caplog):
    """Only images 8 to 13 are given again, the bytes are those of one writer, and the partial folder is gone."""
    with caplog.at_level(logging.WARNING):
        assert write(tmp_path / "store", range(14), killed) == list(range(8, 14))
    assert "behind 2 whole shards" in caplog.text
    write(tmp_path / "whole", range(14))
    assert sha256_tree(tmp_path / "store") == sha256_tree(tmp_path / "whole")
    assert not killed.exists()


@pytest.mark.parametrize("leftover", [".00002.arrow.x1y2.arrow", "00001.arrow"])
def test_a_half_written_shard_is_removed_and_said(killed, tmp_path, caplog, leftover):
    """A file that was never renamed, or a last shard that was cut, is removed by name and its images written again."""
    (killed / leftover).write_bytes(b"ARROW1")
    with caplog.at_level(logging.WARNING):
        given = write(tmp_path / "store", range(14), killed)
    assert given[0] == (4 if leftover == "00001.arrow" else 8)
    assert f"removed what was not whole: {leftover}" in caplog.text
    write(tmp_path / "whole", range(14))
    assert sha256_tree(tmp_path / "store") == sha256_tree(tmp_path / "whole")


def test_a_writing_that_died_just_before_its_end_ends_in_the_same_bytes(tmp_path, monkeypatch):
    """The last, short shard is written again, so that it is filled when there are more images now."""
    with monkeypatch.context() as patch:
        patch.setattr("regionclip.regions.store_writer.link_file", lambda *_: os.strerror(0) + 1)
        with pytest.raises(TypeError):
            write(tmp_path / "store", range(6), tmp_path / "partial")
    assert (tmp_path / "partial" / "store.json").exists() and not (tmp_path / "store").exists()
    assert write(tmp_path / "store", range(9), tmp_path / "partial") == [4, 5, 6, 7, 8]
    write(tmp_path / "whole", range(9))
    assert sha256_tree(tmp_path / "store") == sha256_tree(tmp_path / "whole")


def test_an_unfinished_store_of_another_teacher_is_refused(killed, tmp_path):
    """Its shards are not mixed with new ones; the error names the shard and the folder to delete, and keeps it."""
    with pytest.raises(InputError, match=r"made from something else.*delete the folder .*partial"):
        write(tmp_path / "store", range(14), killed, teacher="b")
    assert (killed / "00001.arrow").exists()


def test_the_finished_store_replaces_the_old_one(tmp_path):
    """With a partial folder too, the old store stays until the new one is whole."""
    write(tmp_path / "store", range(3))
    with pytest.raises(InputError), RegionStoreWriter(tmp_path / "store", {}, partial=tmp_path / "p") as writer:
        writer.add(1, boxes(1), np.zeros(2))
    assert RegionStore.open(tmp_path / "store").image_ids == [0, 1, 2]
    assert write(tmp_path / "store", range(5, 9), tmp_path / "p") == [5, 6, 7, 8]
    assert RegionStore.open(tmp_path / "store").image_ids == [5, 6, 7, 8]
