"""Making a region store in parts: any number of workers make them, each whole or not at all, and one merges them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regionclip.errors import InputError
from regionclip.files import atomic_dir, put_dir, read_json, temporary_dir, write_json
from regionclip.regions.store import Entry, RegionStore, shard_name
from regionclip.regions.store_writer import RegionStoreWriter, write_contents

_PARTS = 64  # of a store, unless its parts become too large
_MOST_IMAGES = 8192  # of a part, which is built in memory and is what a killed worker loses
_STORE, _REJECTED = "store", "rejected.json"


class StoreParts:
    """The parts of a store: ranges of its images, each a small store in a folder of its own.

    Which parts there are depends on the number of images alone. So the merged store has the same bytes however many
    workers made the parts, and however often they were killed. Two workers may make the same part: the first counts.

    Args:
        folder: Where the parts lie; made where it is not there.
        images: Images of the whole store.
        batch_size: Images that are labelled together; no batch is in two parts, because pictures of a batch are
            padded to one size.
        metadata: See `RegionStoreWriter`.
        **options: Further ones of `RegionStoreWriter`.
    """

    def __init__(self, folder: str | Path, images: int, batch_size: int, metadata: dict[str, str], **options: Any):
        self.folder, self.images = Path(folder), images
        self.metadata, self.options = metadata, options
        wanted = min(_MOST_IMAGES, max(1, -(-images // _PARTS)))
        self.rows = -(-wanted // batch_size) * batch_size
        self.folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return max(1, -(-self.images // self.rows))

    def of_worker(self, number: int, workers: int) -> range:
        """Return the parts of worker ``number``, from 1, of ``workers`` that share them evenly, in one piece."""
        return range(len(self) * (number - 1) // workers, len(self) * number // workers)

    def images_of(self, part: int) -> range:
        """Return the places of a part's images among all."""
        return range(part * self.rows, min((part + 1) * self.rows, self.images))

    def missing(self, parts: range) -> list[int]:
        """Return those parts that nobody has finished."""
        return [part for part in parts if not self._path(part).exists()]

    @contextmanager
    def writing(self, part: int) -> Iterator[tuple[RegionStoreWriter, list[InputError]]]:
        """Give a writer for the images of a part, and a list for the errors of those that cannot be read."""
        rejected: list[InputError] = []
        with temporary_dir(self._path(part)) as beside:
            with RegionStoreWriter(beside / _STORE, self.metadata, shard_rows=self.rows, **self.options) as writer:
                yield writer, rejected
            described = [vars(error) | {"file": error.file and str(error.file)} for error in rejected]
            write_json(beside / _REJECTED, described)
            if not self._path(part).exists():
                put_dir(beside, self._path(part))

    def rejected(self) -> Iterator[InputError]:
        """Yield the errors of all images that cannot be read, in their order."""
        for part in range(len(self)):
            for values in read_json(self._path(part) / _REJECTED):
                yield InputError(**values)

    def merge(self, path: str | Path) -> RegionStore:
        """Write the whole store; shards are linked, not copied, where the file system can.

        Args:
            path: The folder to write; one that is there is replaced.

        Raises:
            InputError: A part is missing or truncated.
        """
        stores = [RegionStore.open(self._path(part) / _STORE) for part in range(len(self))]
        shards: list[Entry] = []
        with atomic_dir(path) as folder:
            # A store without images has one empty shard.
            for store in [store for store in stores if len(store)] or stores[:1]:
                for number, entry in enumerate(store.entries):
                    _link(store.path / shard_name(number), folder / shard_name(len(shards)))
                    shards.append(entry)
            write_contents(folder, shards)
        return RegionStore.open(path)

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:05d}"


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot; the files of a store are never changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
