"""A region store is written whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from regionclip.errors import InputError
from regionclip.regions.store import RegionStore
from regionclip.regions.store_writer import RegionStoreWriter

BOXES, LOGITS = np.array([[0, 0, 1, 2]], np.float32), np.zeros(1)


def test_the_old_store_stays_until_the_new_one_is_whole(tmp_path):
    """A writing that fails leaves it; one that succeeds replaces it."""
    for ids, stops in (((0, 1, 2), False), ((5, 6), True), ((7, 8), False)):
        try:
            with RegionStoreWriter(tmp_path / "store", {}, shard_rows=2) as writer:
                for image_id in ids:
                    writer.add(image_id, BOXES, LOGITS)
                if stops:
                    writer.add(9, BOXES, np.zeros(2))
        except InputError:
            assert stops and RegionStore.open(tmp_path / "store").image_ids == [0, 1, 2]
    assert RegionStore.open(tmp_path / "store").image_ids == [7, 8]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_failed_first_writing_leaves_nothing(tmp_path):
    with pytest.raises(InputError), RegionStoreWriter(tmp_path / "store", {}) as writer:
        writer.add(9, BOXES, np.zeros(2))
    assert not list(tmp_path.iterdir())
