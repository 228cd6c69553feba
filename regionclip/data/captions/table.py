"""Captioned images by number in Arrow columns; those of shards lie in an index beside them and take no memory."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from regionclip.data.pictures import ImageSpan
from regionclip.errors import InputError, logger
from regionclip.files import atomic_path

if TYPE_CHECKING:
    from regionclip.data.captions.base import CaptionedImages

_log = logger(__name__)
_STAMP, _LEFT_OUT = "regionclip_index_of", "left_out"
_VERSION = 2
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


@dataclass(frozen=True)
class CaptionedImage:
    """An image that is not decoded yet, and its captions.

    Attributes:
        key: The COCO image id, the image's name in JSON Lines, the key in a shard or TSV.
        image: The image's file, or its place in a shard or TSV; for ``decode_image``.
        captions: At least one, none of them empty.
    """

    key: str
    image: Path | ImageSpan
    captions: tuple[str, ...]


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
        return cls(pa.Table.from_batches(_record_batches(records, Path()), SCHEMA), Path())

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


def _record_batches(records: Iterable[CaptionedImage], root: Path) -> Iterator[pa.RecordBatch]:
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


class MappedCaptionTable(CaptionTable):
    """A table in an index file; a pickled one holds the file's path only.

    Args:
        file: The index.
        root: The folder of the shards.
    """

    def __init__(self, file: Path, root: Path) -> None:
        super().__init__(pa.ipc.open_file(pa.memory_map(str(file))).read_all(), root)
        self.file = file

    def __reduce__(self) -> tuple[type[MappedCaptionTable], tuple[Path, Path]]:
        return MappedCaptionTable, (self.file, self.root)


def index_file(path: Path) -> Path:
    """Return where the index of a shard or a folder of shards is kept: beside it, so that the folder stays as it is."""
    return path.parent / f".{path.name}.index.arrow"


def indexed(source: CaptionedImages, files: Sequence[Path]) -> CaptionTable:
    """Return the table of a source of shards, from its index where that is of these files, else reading them all.

    Where the index cannot be written, the table is in memory.

    Args:
        source: Reads the shards; its ``skipped`` and ``rejects`` are as after a reading.
        files: The shards; an index is of files with these names, sizes and times of change.

    Raises:
        InputError: A record is broken, or too much was set aside.
    """
    root = source.path if source.path.is_dir() else source.path.parent
    about = [(shard.name, shard.stat().st_size, shard.stat().st_mtime_ns) for shard in files]
    # A strict reading differs from one that sets records aside.
    file, stamp = index_file(source.path), json.dumps([_VERSION, source.rejects is None, about]).encode()
    if _is_of(file, stamp):
        table = MappedCaptionTable(file, root)
        _recall(source, file)
        source.check_limit(len(table))
        return table
    _log.info("%s: indexing %d shards", source.path, len(files))
    try:
        with atomic_path(file) as beside:
            _write(source, _record_batches(source, root), beside, stamp)
            table = CaptionTable(MappedCaptionTable(beside, root).columns, root)
            distinct = source.distinct(table)
            if distinct is not table:
                # The first file is mapped while its rows are copied.
                with atomic_path(beside) as again:
                    _write(source, distinct.columns.to_batches(), again, stamp)
        return MappedCaptionTable(file, root)
    except OSError as error:
        _log.warning("%s: no index is kept (%s), so every run reads all shards", source.path, error)
    return source.distinct(CaptionTable.of(source))


def _is_of(file: Path, stamp: bytes) -> bool:
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).schema.metadata[_STAMP.encode()] == stamp
    except (OSError, pa.ArrowException, KeyError, TypeError):
        return False


def _write(source: CaptionedImages, batches: Iterable[pa.RecordBatch], file: Path, stamp: bytes) -> None:
    schema = SCHEMA.with_metadata({_STAMP: stamp})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
        # What was left out is known at the end only, so it is told with a last batch that is empty.
        rejected = [[e.problem, str(e.file), str(e.record), e.key, e.mend] for e in source.rejected]
        left_out = json.dumps({"skipped": source.skipped, "rejected": rejected})
        writer.write_batch(pa.RecordBatch.from_pylist([], SCHEMA), custom_metadata={_LEFT_OUT: left_out})


def _recall(source: CaptionedImages, file: Path) -> None:
    """Tell the source what the reading that made the index left out."""
    reader = pa.ipc.open_file(pa.memory_map(str(file)))
    metadata = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1).custom_metadata
    left_out = json.loads(metadata[_LEFT_OUT])
    source.skipped.clear()
    source.skipped.update(left_out["skipped"])
    source.rejected[:] = [
        InputError(problem, file=name, record=record, key=key, mend=mend)
        for problem, name, record, key, mend in left_out["rejected"]
    ]
    for error in source.rejected:
        source.rejects.add(error)
