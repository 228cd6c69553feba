"""Region store: boxes, objectness and pseudo labels of many images in memory-mapped Arrow shards keyed by image id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from regionclip.errors import InputError
from regionclip.files import read_json
from regionclip.regions.store_shard import CONTENTS, K_KEY, MEND, Regions, Shard
from regionclip.regions.store_writer import RegionStoreWriter

__all__ = ["RegionStore", "RegionStoreWriter", "Regions"]


class RegionStore:
    """Read-only random access by image id; values are views of the memory-mapped files.

    A pickled store holds its path only and opens the folder again, so every loader worker has maps of its own.

    Args:
        path: The folder that ``RegionStoreWriter`` wrote.

    Raises:
        InputError: The folder is no store, or a shard is missing, truncated or of another schema.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._shards = _open_shards(self.path)
        texts = {key.decode(): value.decode() for key, value in self._shards[0].schema.metadata.items()}
        self.k = int(texts.pop(K_KEY))
        self.metadata: dict[str, str] = texts
        self._starts = np.cumsum([0] + [shard.rows for shard in self._shards])
        ids = pa.chunked_array([shard.image_ids for shard in self._shards])
        self._index = pd.Index(ids.to_numpy())
        if not self._index.is_unique:
            twice = self._index[self._index.duplicated()][0]
            raise InputError("the image is there twice", file=self.path, record=twice, mend=MEND)

    @classmethod
    def open(cls, path: str | Path) -> RegionStore:
        """Open the store in a folder; see the class."""
        return cls(path)

    def __reduce__(self) -> tuple[type[RegionStore], tuple[Path]]:
        return RegionStore, (self.path,)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._index

    def __getitem__(self, image_id: int | str) -> Regions:
        """Return the regions of an image as read-only views.

        Raises:
            InputError: The store has no such image.
        """
        try:
            position = self._index.get_loc(image_id)
        except KeyError:
            mend = "make the store again from the images that are used now"
            raise InputError("the store has no such image", file=self.path, record=repr(image_id), mend=mend) from None
        shard = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._shards[shard].regions(position - int(self._starts[shard]))

    @property
    def image_ids(self) -> list[int | str]:
        """The image ids in the order they were written."""
        return self._index.tolist()

    @property
    def id_type(self) -> type[int] | type[str]:
        """The type of the image ids."""
        return int if pd.api.types.is_integer_dtype(self._index.dtype) else str

    @property
    def num_regions(self) -> int:
        """The number of regions of all images together."""
        return sum(shard.num_regions for shard in self._shards)

    def require(self, **metadata: str) -> None:
        """Refuse a store that was made from something else.

        Args:
            **metadata: The keys and values that the store's metadata must have.

        Raises:
            InputError: A key is absent or its value differs.
        """
        for key, wanted in metadata.items():
            got = self.metadata.get(key)
            if got != wanted:
                problem = f"the store was made with {got!r}, wanted {wanted!r}"
                raise InputError(problem, file=self.path, key=key, mend=MEND)

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Return a table with one row a region, for checks and reports.

        Args:
            limit: At most this many regions, from the first image on.

        Returns:
            Columns image_id, x1, y1, x2, y2, objectness; with k > 0 also top_concept and top_prob.
        """
        tables: list[pd.DataFrame] = []
        rows = 0
        for shard in self._shards:
            if limit is not None and rows >= limit and tables:
                break
            tables.append(shard.table())
            rows += len(tables[-1])
        return pd.concat(tables, ignore_index=True).iloc[:limit]


def _open_shards(path: Path) -> list[Shard]:
    contents = read_json(path / CONTENTS)
    try:
        listed = [(path / item["file"], int(item["rows"])) for item in contents["shards"]]
    except (KeyError, TypeError, ValueError) as error:
        problem = f"not the contents of a region store ({error!r})"
        raise InputError(problem, file=path / CONTENTS, mend=MEND) from None
    shards = [Shard(file, rows) for file, rows in listed]
    if not shards:
        raise InputError("the store lists no shard", file=path / CONTENTS, mend=MEND)
    for shard in shards:
        if not shard.schema.equals(shards[0].schema, check_metadata=True):
            raise InputError("the schema differs from the first shard's", file=shard.path, mend=MEND)
    return shards
