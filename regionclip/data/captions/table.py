"""CaptionTable: captioned images by number, in Arrow columns that take no memory when they are memory-mapped."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from regionclip.data.captions.record import CaptionedImage
from regionclip.data.pictures import ImageSpan
from regionclip.errors import InputError

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

    def check_unique(self, file: Path) -> None:
        """Refuse keys that occur twice: regions and images would be mixed up.

        Raises:
            InputError: It names the first such key.
        """
        if pc.count_distinct(self.keys).as_py() == len(self):
            return
        counts = pc.value_counts(self.keys)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise InputError("the key is there twice", file=file, record=twice, mend="give each image a key of its own")


def record_batches(records: Iterable[CaptionedImage], root: Path) -> Iterator[pa.RecordBatch]:
    """Yield batches of `SCHEMA`, files relative to ``root`` where they are below it."""
    rows = (_row(record, root) for record in records)
    while chunk := list(itertools.islice(rows, _BATCH)):
        yield pa.RecordBatch.from_pylist(chunk, SCHEMA)


def _row(record: CaptionedImage, root: Path) -> dict[str, object]:
    image = record.image
    span = image if isinstance(image, ImageSpan) else ImageSpan(image, -1, 0)
    file = span.file.relative_to(root) if root.parts and span.file.is_relative_to(root) else span.file
    place = {"file": str(file), "offset": span.offset, "size": span.size, "base64": span.base64}
    return {"key": record.key, **place, "captions": record.captions}
