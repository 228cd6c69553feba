"""Region store: boxes, objectness and pseudo labels of many images in memory-mapped Arrow shards keyed by image id."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from regionclip.errors import InputError
from regionclip.regions.store_contents import MEND, read_contents
from regionclip.regions.store_index import StoreIndex
from regionclip.regions.store_shard import K_KEY, Regions, Shard
from regionclip.regions.store_writer import RegionStoreWriter

__all__ = ["RegionStore", "RegionStoreWriter", "Regions"]

_OPEN_SHARDS = 256  # each holds a file descriptor, of which a process often has 1024


class RegionStore:
    """Read-only random access by image id; values are views of the memory-mapped files.

    Opening looks at the sizes of the files only; a shard is opened when an image of it is read, and `verify` reads
    all bytes. A pickled store holds its path only and opens the folder again, so every loader worker has maps of its
    own.

    Args:
        path: The folder that ``RegionStoreWriter`` wrote.

    Raises:
        InputError: The folder is no store, or a file of it is missing or truncated.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._entries, self._index_entry = read_contents(self.path)
        self._index = StoreIndex(self.path / self._index_entry.file)
        self._starts = np.cumsum([0] + [entry.rows for entry in self._entries])
        self._cached_shard = lru_cache(_OPEN_SHARDS)(self._open_shard)
        self.schema: pa.Schema = Shard(self.path / self._entries[0].file, self._entries[0].rows).schema
        texts = {key.decode(): value.decode() for key, value in self.schema.metadata.items()}
        self.k = int(texts.pop(K_KEY))
        self.metadata: dict[str, str] = texts

    @classmethod
    def open(cls, path: str | Path) -> RegionStore:
        """Open the store in a folder; see the class."""
        return cls(path)

    def __reduce__(self) -> tuple[type[RegionStore], tuple[Path]]:
        return RegionStore, (self.path,)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __contains__(self, image_id: object) -> bool:
        return self._index.place(image_id) is not None

    def __getitem__(self, image_id: int | str) -> Regions:
        """Return the regions of an image as read-only views.

        Raises:
            InputError: The store has no such image, or its shard is broken.
        """
        place = self._index.place(image_id)
        if place is None:
            mend = "make the store again from the images that are used now"
            raise InputError("the store has no such image", file=self.path, record=repr(image_id), mend=mend)
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        shard, row = self._cached_shard(number), place - int(self._starts[number])
        if shard.image_ids[row].as_py() != image_id:
            raise InputError("the shard is not the one that was indexed", file=shard.path, record=image_id, mend=MEND)
        return shard.regions(row)

    def _open_shard(self, number: int) -> Shard:
        entry = self._entries[number]
        shard = Shard(self.path / entry.file, entry.rows)
        if not shard.schema.equals(self.schema, check_metadata=True):
            raise InputError("the schema differs from the first shard's", file=shard.path, mend=MEND)
        return shard

    def shards(self) -> Iterator[Shard]:
        """Yield the shards in the order they were written; for passes over everything."""
        return (self._open_shard(number) for number in range(len(self._entries)))

    @property
    def ids(self) -> pa.Array:
        """The image ids in the order they were written, int64 or string, as a view of the index."""
        return self._index.ids

    @property
    def image_ids(self) -> list[int | str]:
        """The image ids in the order they were written."""
        return self.ids.to_pylist()

    @property
    def id_type(self) -> type[int] | type[str]:
        """The type of the image ids."""
        return self._index.id_type

    @property
    def num_regions(self) -> int:
        """The number of regions of all images together."""
        return sum(entry.regions for entry in self._entries)

    @property
    def num_bytes(self) -> int:
        """The size of all files together, in bytes."""
        return sum(entry.bytes for entry in (*self._entries, self._index_entry))

    def require(self, **metadata: str) -> None:
        """Refuse a store that was made from something else.

        Args:
            **metadata: The keys and values that the store's metadata must have, such as ``teacher_sha256``,
                ``bank_sha256`` and ``rpn_sha256``.

        Raises:
            InputError: A key is absent or its value differs; it names each of them.
        """
        got = {key: self.metadata.get(key) for key in metadata}
        other = [key for key, wanted in metadata.items() if got[key] != wanted]
        if other:
            problems = [f"the store was made with {key} {got[key]!r}, wanted {metadata[key]!r}" for key in other]
            raise InputError("; ".join(problems), file=self.path, key=", ".join(other), mend=MEND)

    def verify(self) -> int:
        """Compare the checksum of every file and return how many there are.

        Raises:
            InputError: A file's bytes changed; it names the file.
        """
        entries = [*self._entries, self._index_entry]
        for entry in entries:
            entry.check_bytes(self.path)
        return len(entries)

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Return a table with one row a region, for checks and reports.

        Args:
            limit: At most this many regions, from the first image on.

        Returns:
            Columns image_id, x1, y1, x2, y2, objectness; with k > 0 also top_concept and top_prob.
        """
        tables: list[pd.DataFrame] = []
        rows = 0
        for shard in self.shards():
            if limit is not None and rows >= limit and tables:
                break
            tables.append(shard.table())
            rows += len(tables[-1])
        return pd.concat(tables, ignore_index=True).iloc[:limit]
