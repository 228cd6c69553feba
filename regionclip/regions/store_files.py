"""Files of a region store: names, links in place of copies, and what completes a store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from regionclip.regions.store_contents import INDEX, Entry, write_contents
from regionclip.regions.store_index import write_index


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
