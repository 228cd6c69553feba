"""Whoever makes the parts of a store, and however often they are killed, the merged store has the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionclip.errors import InputError
from regionclip.files import sha256_tree
from regionclip.regions.store import RegionStore
from regionclip.regions.store_parts import StoreParts

IMAGES = 150


def make(folder: Path, worker: tuple[int, int] = (1, 1), stop: int | None = None) -> list[int]:
    """Make what is missing of a worker's parts; image 40 cannot be read. Kill this process at image ``stop``."""
    parts, made = StoreParts(folder, IMAGES, 2, {"teacher": "a"}), []
    for part in parts.missing(parts.of_worker(*worker)):
        with parts.writing(part) as (writer, rejected):
            for image_id in parts.images_of(part):
                if image_id == stop:
                    os.kill(os.getpid(), signal.SIGKILL)
                boxes = np.array([[0, 0, 1 + image_id, 2]] * (image_id % 3), np.float32).reshape(-1, 4)
                if image_id == 40:
                    rejected.append(InputError("no picture", file=Path("40.png"), record=40, mend="fetch it again"))
                else:
                    writer.add(image_id, boxes, np.zeros(image_id % 3))
        made.append(part)
    return made


@pytest.fixture
def whole(tmp_path: Path) -> str:
    """Checksum of the store of one worker."""
    make(tmp_path / "alone")
    parts = StoreParts(tmp_path / "alone", IMAGES, 2, {"teacher": "a"})
    store = parts.merge(tmp_path / "whole")
    assert store.image_ids == [number for number in range(IMAGES) if number != 40]
    assert len(store.entries) > 1, "there are several shards"
    return sha256_tree(tmp_path / "whole")


@given(st.integers(0, 10**7), st.integers(1, 64), st.integers(1, 40))
def test_parts_cover_all_images_once_and_workers_all_parts(tmp_path_factory, images, batch, workers):
    """No batch is in two parts, none is larger than 8192 images and a batch, and there are about 64 where they fit."""
    parts = StoreParts(tmp_path_factory.getbasetemp(), images, batch, {})
    ranges = [parts.images_of(part) for part in (0, len(parts) - 1)]
    assert ranges[0].start == 0 and ranges[-1].stop == images and len(ranges[-1]) <= parts.rows
    assert parts.rows % batch == 0 and parts.rows < 8192 + batch
    assert len(parts) <= max(64, images // 8192 + 1)
    shares = [parts.of_worker(number, workers) for number in range(1, workers + 1)]
    assert [part for share in shares for part in share] == list(range(len(parts)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("workers", [2, 3, 100])
def test_shares_of_several_workers_merge_to_the_bytes_of_one(tmp_path, whole, workers):
    """In any order, and with more workers than parts."""
    for number in reversed(range(1, workers + 1)):
        make(tmp_path / "parts", (number, workers))
    assert make(tmp_path / "parts") == [], "nothing is left"
    StoreParts(tmp_path / "parts", IMAGES, 2, {"teacher": "a"}).merge(tmp_path / "store")
    assert sha256_tree(tmp_path / "store") == whole


def test_killed_worker_goes_on_with_the_part_it_was_in(tmp_path, whole):
    """SIGKILL at image 41, in the part of images 40 and up: the parts before it are kept, the bytes are the same."""
    code = "import sys; from pathlib import Path; from test_store_parts import make; make(Path(sys.argv[1]), stop=41)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "parts")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    parts = StoreParts(tmp_path / "parts", IMAGES, 2, {"teacher": "a"})
    stopped = 41 // parts.rows
    assert make(tmp_path / "parts") == list(range(stopped, len(parts)))
    parts.merge(tmp_path / "store")
    assert sha256_tree(tmp_path / "store") == whole


def test_two_workers_may_make_the_same_part(tmp_path, whole):
    """The one that ends later finds it there, and leaves nothing behind."""
    folder = tmp_path / "parts"
    parts = StoreParts(folder, IMAGES, 2, {"teacher": "a"})
    with parts.writing(0) as (writer, _):
        make(folder)
        for image_id in parts.images_of(0):
            writer.add(image_id, np.array([[0, 0, 99, 99]], np.float32), np.zeros(1))
    assert sorted(path.name for path in folder.iterdir()) == [f"{part:05d}" for part in range(len(parts))]
    parts.merge(tmp_path / "store")
    assert sha256_tree(tmp_path / "store") == whole


def test_errors_of_all_parts_come_back_as_they_were(tmp_path):
    make(tmp_path / "parts")
    (error,) = StoreParts(tmp_path / "parts", IMAGES, 2, {"teacher": "a"}).rejected()
    assert (error.problem, error.file, error.record, error.key) == ("no picture", "40.png", 40, None)
    assert str(error) == "40.png, record 40: no picture. To mend: fetch it again."


def test_a_missing_part_is_named(tmp_path):
    make(tmp_path / "parts", (1, 2))
    with pytest.raises(InputError, match="the file does not exist"):
        StoreParts(tmp_path / "parts", IMAGES, 2, {"teacher": "a"}).merge(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_no_images_are_an_empty_store(tmp_path):
    parts = StoreParts(tmp_path / "parts", 0, 8, {"teacher": "a"})
    with parts.writing(0):
        pass
    assert len(parts.merge(tmp_path / "store")) == 0 and len(RegionStore.open(tmp_path / "store")) == 0
