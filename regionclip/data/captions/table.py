"""CaptionTable: captioned images by number, in Arrow columns that take no memory when they are memory-mapped."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from regionclip.data.captions.record import CaptionedImage
from regionclip.data.pictures import ImageSpan

_BATCH = 8192
INTEGER = r"^-?\d{1,18}$"  # keys that fit 64 bits
# Offset -1: the image is a whole file. Files are relative to the table's root.
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("base64", pa.bool_()),
        ("captions", pa.list_(pa.string())),
    ]
)


class CaptionTable:
    """Captioned images in the order of their source; a record is made when it is asked for.

    Args:
        columns: A table of `SCHEMA`.
        root: The folder that files of images start from.
    """

    def __init__(self, columns: pa.Table, root: Path) -> None:
        self.columns, self.root = columns, root

    @classmethod
    def of(cls, records: Iterable[CaptionedImage]) -> CaptionTable:
        """Hold captioned images in memory, their images as places only."""
        return cls(pa.Table.from_batches(record_batches(records, Path()), SCHEMA), Path())

    def __len__(self) -> int:
        return self.columns.num_rows

    def __getitem__(self, index: int) -> CaptionedImage:
        key, file, offset, size, base64, captions = (column[index].as_py() for column in self.columns.columns)
        path = self.root / file
        return CaptionedImage(key, path if offset < 0 else ImageSpan(path, offset, size, base64), tuple(captions))

    @property
    def captions(self) -> pa.ChunkedArray:
        """The captions of all images, string, one after the other."""
        return pc.list_flatten(self.columns.column("captions"))

    def iter_captions(self) -> Iterator[str]:
        """Yield every caption; one batch of them is in memory at a time."""
        for batch in self.columns.column("captions").chunks:
            yield from batch.flatten().to_pylist()

    @property
    def keys(self) -> pa.ChunkedArray:
        """The keys, string."""
        return self.columns.column("key")

    @property
    def ids(self) -> pa.Array:
        """The keys as image ids: int64 where all of them are integers, else string."""
        keys = self.keys.combine_chunks()
        whole = pc.all(pc.match_substring_regex(keys, INTEGER), min_count=0).as_py()
        return keys.cast(pa.int64()) if whole else keys

    def distinct(self) -> tuple[CaptionTable, list[str]]:
        """Return each image once, with the captions of all its rows, and the keys of rows that name another image.

        Images are the same whose ids and places are, ids in the type of `ids`: that is the store's. Of several images
        with one id the first stays.
        """
        encoded = self.ids.dictionary_encode()
        if len(encoded.dictionary) == len(self):
            return self, []
        codes = encoded.indices.to_numpy()
        # Codes count ids in the order that they come in.
        _, first = np.unique(codes, return_index=True)
        same = np.ones(len(self), bool)
        for name in ("file", "offset"):
            column = self.columns.column(name)
            same &= pc.equal(column, column.take(first[codes])).to_numpy()
        order = np.flatnonzero(same)
        order = order[np.argsort(codes[order], kind="stable")]
        captions = self.columns.column("captions").combine_chunks()
        counts = np.bincount(codes[order], pc.list_value_length(captions).to_numpy()[order]).astype(np.int32)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        joined = pa.ListArray.from_arrays(offsets, captions.take(order).flatten())
        place = SCHEMA.get_field_index("captions")
        columns = self.columns.take(first).set_column(place, SCHEMA.field(place), joined)
        return CaptionTable(columns, self.root), self.keys.filter(~same).to_pylist()


def record_batches(records: Iterable[CaptionedImage], root: Path) -> Iterator[pa.RecordBatch]:
    """Yield batches of `SCHEMA`, files relative to ``root`` where they are below it."""
    # Shards hold thousands of images each.
    relative = functools.lru_cache(lambda file: str(file.relative_to(root) if file.is_relative_to(root) else file))
    named = relative if root.parts else str
    iterator = iter(records)
    while chunk := list(itertools.islice(iterator, _BATCH)):
        rows = (_row(record, named) for record in chunk)
        columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _row(record: CaptionedImage, named: Callable[[Path], str]) -> tuple[object, ...]:
    image = record.image
    if isinstance(image, ImageSpan):
        return record.key, named(image.file), image.offset, image.size, image.base64, record.captions
    return record.key, named(image), -1, 0, False, record.captions
