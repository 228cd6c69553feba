"""Index of a region store: its image ids and their sorted keys, memory-mapped, so that any store opens at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from regionclip.errors import InputError
from regionclip.regions.store_contents import MEND


def id_key(image_id: int | str) -> int:
    """Return the key of an id: an integer itself, 64 bits of BLAKE2b of a string."""
    if isinstance(image_id, str):
        return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "little", signed=True)
    return image_id


def write_index(path: Path, image_ids: Sequence[int | str], id_type: pa.DataType) -> None:
    """Write the index of ids that are given in the order in which the shards hold them.

    One row an id: the id itself in that order; beside it, sorted by key, the keys and the places of their ids.
    """
    keys = np.fromiter((id_key(image_id) for image_id in image_ids), np.int64, len(image_ids))
    order = np.argsort(keys, kind="stable")
    columns = {"image_id": pa.array(image_ids, id_type), "key": keys[order], "place": order.astype(np.uint32)}
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


class StoreIndex:
    """Finds images; binary search in the memory-mapped file.

    Args:
        path: The file that `write_index` wrote.

    Attributes:
        ids: The image ids in the order of the shards, int64 or string.

    Raises:
        InputError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            self._keys, self._places = (batch.column(name).to_numpy(zero_copy_only=True) for name in ("key", "place"))
            self.ids: pa.Array = batch.column("image_id")
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(f"the index cannot be read ({error})", file=path, mend=MEND) from None
        self.id_type: type[int] | type[str] = int if pa.types.is_integer(self.ids.type) else str

    def place(self, image_id: object) -> int | None:
        """Return the place of an image, counted over all shards; None where it is not there."""
        if not isinstance(image_id, str if self.id_type is str else (int, np.integer)):
            return None
        wanted = self.id_type(image_id)
        key = id_key(wanted)
        if not -(2**63) <= key < 2**63:
            return None
        start, stop = (np.searchsorted(self._keys, np.int64(key), side=side) for side in ("left", "right"))
        # Two strings may have one key.
        return next((place for place in self._places[start:stop].tolist() if self.ids[place].as_py() == wanted), None)
