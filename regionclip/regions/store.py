"""Region store: boxes, objectness and pseudo labels of many images in memory-mapped Arrow shards, read by image id.

Images may have their captions' features beside them.

A folder of shards ``00000.arrow``, ... with one row an image, and ``store.json``, which lists them and completes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa

from regionclip.errors import InputError
from regionclip.files import read_json

if TYPE_CHECKING:
    import pandas as pd

CONTENTS, K_KEY = "store.json", "concepts_per_region"
CAPTIONS = ("caption_keys", "caption_features")
MEND = "run the stage that writes the store again"

_OPEN_SHARDS = 256  # each holds a file descriptor, of which a process often has 1024
_BINS = 10_000  # of the histogram of probabilities
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75)


class Entry(NamedTuple):
    """A shard as ``store.json`` lists it: its images, regions and bytes."""

    rows: int
    regions: int
    bytes: int


class Regions(NamedTuple):
    """The regions of one image.

    Attributes:
        boxes: float32 [n, 4], xyxy in pixels of the original image.
        objectness: float32 [n], raw logits.
        concept_index: uint16 or int32 [n, k], indices into the concept pool, best first; None when k = 0.
        concept_prob: float32 [n, k], the teacher's probabilities; None when k = 0.
        caption_keys: uint32 [m], `caption_key` of each of the image's captions; None where the store has no captions.
        caption_features: float32 [m, D], what the teacher's text encoder makes of them, any norm.
    """

    boxes: np.ndarray
    objectness: np.ndarray
    concept_index: np.ndarray | None = None
    concept_prob: np.ndarray | None = None
    caption_keys: np.ndarray | None = None
    caption_features: np.ndarray | None = None

    def features_of(self, caption: str) -> np.ndarray | None:
        """Return the features (D,) of one of the image's captions; None where it is not there."""
        places = [] if self.caption_keys is None else np.flatnonzero(self.caption_keys == caption_key(caption))
        return self.caption_features[places[0]] if len(places) else None


def caption_key(caption: str) -> int:
    """Return what tells a caption from the others of its image."""
    return crc32(caption.encode())


class Shard:
    """A memory-mapped shard.

    Args:
        path: The Arrow IPC file.
        rows: The number of images it must have.

    Raises:
        InputError: The file is absent, truncated, or has another number of rows.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows = path, rows
        try:
            batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            batch.validate(full=True)
        except (pa.ArrowException, OSError, IndexError) as error:
            raise InputError(f"the shard cannot be read ({error})", file=path, mend=MEND) from None
        self.schema: pa.Schema = batch.schema
        if batch.num_rows != rows or K_KEY.encode() not in (self.schema.metadata or {}):
            problem = f"not the shard that {CONTENTS} lists ({batch.num_rows} rows, wanted {rows})"
            raise InputError(problem, file=path, mend=MEND)
        self.image_ids: pa.Array = batch.column("image_id")
        self._k = int(self.schema.metadata[K_KEY.encode()])
        self._columns: list[tuple[np.ndarray, int]] = []
        self._offsets: np.ndarray = batch.column("objectness").offsets.to_numpy(zero_copy_only=True)
        self._captions = self._caption_columns(batch) if CAPTIONS[0] in self.schema.names else None
        for name in [name for name in self.schema.names[1:] if name not in CAPTIONS]:
            column, width = batch.column(name), {"boxes": 4, "objectness": 1}.get(name, self._k)
            if not np.array_equal(column.offsets.to_numpy(zero_copy_only=True), self._offsets * width):
                raise InputError("the column does not fit the number of regions", file=path, key=name, mend=MEND)
            self._columns.append((column.values.to_numpy(zero_copy_only=True), width))

    def _caption_columns(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where the captions of each row begin, their keys and their features, as views."""
        keys, features = map(batch.column, CAPTIONS)
        offsets, values = keys.offsets.to_numpy(zero_copy_only=True), features.values
        if not np.array_equal(features.offsets.to_numpy(zero_copy_only=True), offsets):
            problem = "the column does not fit the number of captions"
            raise InputError(problem, file=self.path, key=CAPTIONS[1], mend=MEND)
        flat = values.values.to_numpy(zero_copy_only=True).reshape(len(values), values.type.list_size)
        return offsets, keys.values.to_numpy(zero_copy_only=True), flat

    @property
    def counts(self) -> np.ndarray:
        """The number of regions of each image, int32 [rows]."""
        return np.diff(self._offsets)

    def regions(self, row: int | None = None) -> Regions:
        """Return the regions of the image in a row, or those of all behind each other, as read-only views.

        Captions come with a row only.
        """
        start, stop = (0, int(self._offsets[-1])) if row is None else self._offsets[row : row + 2].tolist()
        boxes, objectness, *labels = (
            values[start * width : stop * width].reshape(-1, width) for values, width in self._columns
        )
        found = Regions(boxes, objectness[:, 0], *labels)
        if row is None or self._captions is None:
            return found
        offsets, keys, features = self._captions
        start, stop = offsets[row : row + 2].tolist()
        return found._replace(caption_keys=keys[start:stop], caption_features=features[start:stop])

    def table(self) -> pd.DataFrame:
        """Return one row a region; see `RegionStore.to_pandas`."""
        import pandas as pd

        regions = self.regions()
        ids = np.repeat(self.image_ids.to_numpy(zero_copy_only=False), self.counts)
        corners = dict(zip(("x1", "y1", "x2", "y2"), regions.boxes.T, strict=True))
        columns = {"image_id": ids, **corners, "objectness": regions.objectness}
        if self._k:
            columns |= {"top_concept": regions.concept_index[:, 0], "top_prob": regions.concept_prob[:, 0]}
        return pd.DataFrame(columns)


class RegionStore:
    """Read-only random access by image id; values are views of the memory-mapped files.

    Opening looks at the sizes of the files only. The first look-up reads all ids and sorts them; a shard is opened when
    an image of it is read. A pickled store holds its path only and opens the folder again, so every loader worker has
    maps of its own.

    Args:
        path: The folder that ``RegionStoreWriter`` wrote.

    Raises:
        InputError: The folder is no store, or a file of it is missing or truncated.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.entries = _read_entries(self.path)
        self._starts = np.cumsum([0] + [entry.rows for entry in self.entries])
        self._cached_shard = lru_cache(_OPEN_SHARDS)(self._open_shard)
        self.schema: pa.Schema = Shard(self.path / shard_name(0), self.entries[0].rows).schema
        texts = {key.decode(): value.decode() for key, value in self.schema.metadata.items()}
        self.k = int(texts.pop(K_KEY))
        self.metadata: dict[str, str] = texts
        self.id_type: type[int] | type[str] = int if pa.types.is_integer(self.schema.field("image_id").type) else str

    @classmethod
    def open(cls, path: str | Path) -> RegionStore:
        """Open the store in a folder; see the class."""
        return cls(path)

    def __reduce__(self) -> tuple[type[RegionStore], tuple[Path]]:
        return RegionStore, (self.path,)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __contains__(self, image_id: object) -> bool:
        return self._place(image_id) is not None

    def __getitem__(self, image_id: int | str) -> Regions:
        """Return the regions of an image as read-only views.

        Raises:
            InputError: The store has no such image, or a shard is broken.
        """
        place = self._place(image_id)
        if place is None:
            mend = "make the store again from the images that are used now"
            raise InputError("the store has no such image", file=self.path, record=repr(image_id), mend=mend)
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self._cached_shard(number).regions(place - int(self._starts[number]))

    def _open_shard(self, number: int) -> Shard:
        shard = Shard(self.path / shard_name(number), self.entries[number].rows)
        if not shard.schema.equals(self.schema, check_metadata=True):
            raise InputError("the schema differs from the first shard's", file=shard.path, mend=MEND)
        return shard

    def shards(self) -> Iterator[Shard]:
        """Yield the shards in the order they were written; for passes over everything."""
        return (self._open_shard(number) for number in range(len(self.entries)))

    @cached_property
    def ids(self) -> pa.Array:
        """The image ids in the order they were written, int64 or string."""
        return pa.concat_arrays([shard.image_ids for shard in self.shards()])

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """The keys of the ids, sorted, and the places of the ids."""
        keys = _keys(self.ids.to_numpy(zero_copy_only=False))
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        for first, second in zip(order[same].tolist(), order[same + 1].tolist(), strict=True):
            if self.ids[first] == self.ids[second]:
                number = int(np.searchsorted(self._starts, second, side="right")) - 1
                file, record = self.path / shard_name(number), self.ids[second].as_py()
                raise InputError("the image is in the store twice", file=file, record=record, mend=MEND)
        return keys[order], order

    def _place(self, image_id: object) -> int | None:
        """Return the place of an image, counted over all shards; None where it is not there."""
        if not isinstance(image_id, str if self.id_type is str else (int, np.integer)):
            return None
        wanted = self.id_type(image_id)
        if self.id_type is int and not -(2**63) <= wanted < 2**63:
            return None
        keys, places = self._index
        key = _keys(np.array([wanted], object if self.id_type is str else np.int64))[0]
        start, stop = (np.searchsorted(keys, key, side=side) for side in ("left", "right"))
        # Two strings may have one key.
        return next((place for place in places[start:stop].tolist() if self.ids[place].as_py() == wanted), None)

    @property
    def image_ids(self) -> list[int | str]:
        """The image ids in the order they were written."""
        return self.ids.to_pylist()

    @property
    def num_regions(self) -> int:
        """The number of regions of all images together."""
        return sum(entry.regions for entry in self.entries)

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

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Return a table with one row a region, for checks and reports.

        Args:
            limit: At most this many regions, from the first image on.

        Returns:
            Columns image_id, x1, y1, x2, y2, objectness; with k > 0 also top_concept and top_prob.
        """
        import pandas as pd

        tables: list[pd.DataFrame] = []
        rows = 0
        for shard in self.shards():
            if limit is not None and rows >= limit and tables:
                break
            tables.append(shard.table())
            rows += len(tables[-1])
        return pd.concat(tables, ignore_index=True).iloc[:limit]

    def summary(self) -> dict[str, Any]:
        """Return size and coverage, read shard by shard.

        Returns:
            ``images``, ``regions``, ``bytes``, ``regions_per_image`` (mean, min, max); with k > 0 and a region also
            ``top_k_mass``, the sum of a region's k probabilities over all regions: ``mean`` and the quantiles ``q01``,
            ``q05``, ``q25``, ``q50``, ``q75``, to 1 / 10,000.
        """
        histogram, total, counts = np.zeros(_BINS + 1, np.int64), 0.0, []
        for shard in self.shards():
            counts.append(shard.counts)
            if self.k:
                mass = shard.regions().concept_prob.sum(axis=1, dtype=np.float64)
                total += float(mass.sum())
                # Rounded probabilities may sum to a little over one.
                histogram += np.bincount((mass.clip(0, 1) * _BINS).astype(np.int64), minlength=_BINS + 1)
        size = sum(entry.bytes for entry in self.entries)
        summary: dict[str, Any] = {"images": len(self), "regions": self.num_regions, "bytes": size}
        if len(self):
            each = np.concatenate(counts)
            mean = self.num_regions / len(self)
            summary["regions_per_image"] = {"mean": mean, "min": int(each.min()), "max": int(each.max())}
        if self.k and self.num_regions:
            cumulative = np.cumsum(histogram)
            places = {q: int(np.searchsorted(cumulative, q * cumulative[-1])) for q in _QUANTILES}
            quantiles = {f"q{round(100 * q):02d}": place / _BINS for q, place in places.items()}
            summary["top_k_mass"] = {"mean": total / self.num_regions, **quantiles}
        return summary


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"{number:05d}.arrow"


def _keys(ids: np.ndarray) -> np.ndarray:
    """Return the key of each id: an integer itself, 64 bits of a hash of a string."""
    if ids.dtype != object:
        return ids
    from pandas.util import hash_array  # who detects needs no pandas, and no half a second for it

    return hash_array(ids, categorize=False)


def _read_entries(folder: Path) -> list[Entry]:
    """Return what ``store.json`` lists, each file there with its size."""
    contents = read_json(folder / CONTENTS)
    try:
        entries = [Entry(**item) for item in contents["shards"]]
    except (KeyError, TypeError) as error:
        problem = f"not the contents of a region store ({error!r})"
        raise InputError(problem, file=folder / CONTENTS, mend=MEND) from None
    if not entries:
        raise InputError("the store lists no shard", file=folder / CONTENTS, mend=MEND)
    for number, entry in enumerate(entries):
        path = folder / shard_name(number)
        if not path.exists():
            raise InputError("the shard does not exist", file=path, mend=MEND)
        if (size := path.stat().st_size) != entry.bytes:
            raise InputError(f"the shard has {size} bytes, {CONTENTS} says {entry.bytes}", file=path, mend=MEND)
    return entries
