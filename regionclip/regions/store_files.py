"""Files of a region store: names, links in place of copies, and what a killed writing left."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from regionclip.errors import InputError
from regionclip.regions.store_contents import CONTENTS, INDEX, Entry, write_contents
from regionclip.regions.store_index import write_index
from regionclip.regions.store_shard import Shard

_log = logging.getLogger(__name__)


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"{number:05d}.arrow"


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot; the files of a store are never changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def finish_store(folder: Path, shards: list[Entry], image_ids: Sequence[int | str], id_type: pa.DataType) -> None:
    """Write the index and the contents beside the shards."""
    write_index(folder / INDEX, image_ids, id_type)
    write_contents(folder, shards, Entry.of(folder / INDEX, len(image_ids), 0))


def whole_shards(folder: Path, rows: int) -> list[Shard]:
    """Return the whole shards of an unfinished store; remove all other files, and say which shards were among them.

    Args:
        folder: The folder of the unfinished store; made where it is not there.
        rows: Images of a whole shard. A shorter one was the last, which more images would have filled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole: list[Shard] = []
    while (path := folder / shard_name(len(whole))).exists():
        try:
            whole.append(Shard(path, rows))
        except InputError:
            break
    kept = {shard.path for shard in whole}
    removed = sorted(path for path in folder.iterdir() if path not in kept)
    for path in removed:
        path.unlink()
    broken = [path.name for path in removed if path.name not in (CONTENTS, INDEX)]
    if whole or broken:
        note = f"; removed what was not whole: {', '.join(broken)}" if broken else ""
        _log.warning("%s: goes on behind %d whole shards of %d images%s", folder, len(whole), rows, note)
    return whole
