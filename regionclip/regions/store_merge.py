"""Merging region stores: the shards of several become one store, without rewriting them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regionclip.errors import InputError
from regionclip.files import atomic_dir
from regionclip.regions.store import RegionStore
from regionclip.regions.store_contents import MEND, Entry, read_contents
from regionclip.regions.store_files import finish_store, link_file, shard_name


def merge_stores(parts: Sequence[str | Path], path: str | Path) -> RegionStore:
    """Write a store with the images of several, in the order given.

    It is byte for byte what one writer with the same shard boundaries would have written. Shards are linked, not
    copied, where the file system can. To append to a store, merge it with the new part into its own path.

    Args:
        parts: Folders of stores with equal metadata, k and types.
        path: The folder to write; one that is there is replaced.

    Raises:
        InputError: No part is given, parts differ in what they were made from, an image is in two of them, or a
            file's bytes changed.
    """
    if not parts:
        raise InputError("no store to merge", file=path, mend="give at least one")
    stores = [RegionStore.open(part) for part in parts]
    # A store without images has one empty shard.
    filled = [store for store in stores if len(store)] or stores[:1]
    for store in stores:
        _check_alike(filled[0], store)
    owners: dict[int | str, Path] = {}
    for store in filled:
        for image_id in store.image_ids:
            if image_id in owners:
                problem = f"the image is in {owners[image_id]} too"
                raise InputError(problem, file=store.path, record=image_id, mend="leave one of the two stores out")
            owners[image_id] = store.path
    with atomic_dir(path) as folder:
        shards = _link_shards([store.path for store in filled], folder)
        finish_store(folder, shards, list(owners), filled[0].ids.type)
    return RegionStore.open(path)


def _check_alike(first: RegionStore, other: RegionStore) -> None:
    other.require(**first.metadata)
    first.require(**other.metadata)
    # The ids of a store without images are of no kind.
    start = 0 if len(other) else 1
    if list(first.schema)[start:] != list(other.schema)[start:]:
        raise InputError(f"the columns differ from those of {first.path}", file=other.path, mend=MEND)


def _link_shards(parts: Sequence[Path], folder: Path) -> list[Entry]:
    shards: list[Entry] = []
    for part in parts:
        for entry in read_contents(part)[0]:
            entry.check_bytes(part)
            shards.append(entry._replace(file=shard_name(len(shards))))
            link_file(part / entry.file, folder / shards[-1].file)
    return shards
