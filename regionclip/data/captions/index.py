"""Index of shards: where each image lies and what its captions are, kept in a file beside them and memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from regionclip.data.captions.table import SCHEMA, CaptionTable, record_batches
from regionclip.errors import InputError, logger
from regionclip.files import atomic_path

if TYPE_CHECKING:
    from regionclip.data.captions.base import CaptionedImages

_log = logger(__name__)
_STAMP, _LEFT_OUT = "regionclip_index_of", "left_out"
_VERSION = 2


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
    file, stamp = index_file(source.path), _stamp(source, files)
    if _is_of(file, stamp):
        table = MappedCaptionTable(file, root)
        _recall(source, file)
        source.check_limit(len(table))
        return table
    _log.info("%s: indexing %d shards", source.path, len(files))
    try:
        with atomic_path(file) as beside:
            _write(source, record_batches(source, root), beside, stamp)
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


def _stamp(source: CaptionedImages, files: Sequence[Path]) -> bytes:
    """Return what an index is of: a strict reading differs from one that sets records aside."""
    about = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return json.dumps([_VERSION, source.rejects is None, about]).encode()


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
