"""Merged stores are what one writer would have written; parts that do not fit are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regionclip.errors import InputError
from regionclip.files import sha256_tree
from regionclip.regions.store import RegionStore
from regionclip.regions.store_parts import merge_stores
from regionclip.regions.store_writer import RegionStoreWriter

BOXES, LOGITS = np.array([[1, 2, 3, 5]], np.float32), np.zeros(1, np.float32)


def write(path: Path, ids: list, teacher: str = "a", **options) -> Path:
    """Write a store of one region an image, three images a shard."""
    k = options.get("k", 0)
    labels = (np.zeros((1, k), int), np.zeros((1, k))) if k else ()
    with RegionStoreWriter(path, {"teacher": teacher}, shard_rows=3, **options) as writer:
        for image_id in ids:
            writer.add(image_id, BOXES + (image_id if isinstance(image_id, int) else 0), LOGITS, *labels)
    return path


def test_merged_equals_written_by_one(tmp_path):
    """With the shard boundaries of one writer the bytes are its bytes; a part without images adds nothing."""
    parts = [write(tmp_path / "a", [9, 2, 5]), write(tmp_path / "0", []), write(tmp_path / "b", [1, 8, 7, 3])]
    store = merge_stores(parts, tmp_path / "merged")
    assert store.image_ids == [9, 2, 5, 1, 8, 7, 3]
    np.testing.assert_array_equal(store[8].boxes, BOXES + 8)
    assert sha256_tree(tmp_path / "merged") == sha256_tree(write(tmp_path / "one", [9, 2, 5, 1, 8, 7, 3]))
    assert sha256_tree(parts[0]) == sha256_tree(write(tmp_path / "again", [9, 2, 5])), "the parts stay"


def test_a_store_grows_by_merging_into_itself(tmp_path):
    """Appending: the old shards come first, short ones stay short."""
    old, new = write(tmp_path / "s", [1, 2]), write(tmp_path / "new", [3])
    assert merge_stores([old, new], old).image_ids == [1, 2, 3]
    assert [entry.rows for entry in RegionStore.open(old).shards()] == [2, 1]


def test_only_empty_stores(tmp_path):
    """They merge to an empty store."""
    assert len(merge_stores([write(tmp_path / "a", []), write(tmp_path / "b", [])], tmp_path / "m")) == 0


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"ids": [3], "teacher": "b"}, "teacher 'b', wanted 'a'"),
        ({"ids": [3], "k": 1}, "columns differ"),
        ({"ids": ["3"]}, "columns differ"),
        ({"ids": [2]}, "record 2: the image is in .*a too"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, other, words):
    """Another teacher, other columns, ids of another kind and an image that is in both: nothing is written."""
    parts = [write(tmp_path / "a", [1, 2]), write(tmp_path / "b", **other)]
    with pytest.raises(InputError, match=words):
        merge_stores(parts, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    with pytest.raises(InputError, match="no store"):
        merge_stores([], tmp_path / "m")


def test_a_cut_part_is_named(tmp_path):
    """Nothing of it is carried over into a store that looks whole."""
    part = write(tmp_path / "a", [1, 2])
    data = (part / "00000.arrow").read_bytes()
    (part / "00000.arrow").write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"a/00000\.arrow: the shard has \d+ bytes"):
        merge_stores([part], tmp_path / "m")
