"""Captioned pictures as WebDataset shards in the layout of img2dataset: KEY.jpg, KEY.txt, KEY.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from regionclip.demo_world.pairs import Pair

SHARD_SIZE = 1000


def write_shards(folder: Path, pairs: Iterable[Pair]) -> int:
    """Write ``pairs`` to FOLDER/00000.tar, 00001.tar, ...; the same pairs give the same bytes. Return their number."""
    import webdataset  # imports torch, which the processes that only draw do not need

    folder.mkdir(parents=True)
    writer, count = None, 0
    try:
        for count, pair in enumerate(pairs, 1):
            shard, place = divmod(count - 1, SHARD_SIZE)
            if place == 0:
                if writer:
                    writer.close()
                writer = webdataset.TarWriter(str(folder / f"{shard:05d}.tar"), encoder=False, mtime=0)
            writer.write(_sample(f"{shard:05d}{place:04d}", pair))
    finally:
        if writer:
            writer.close()
    return count


def _sample(key: str, pair: Pair) -> dict[str, str | bytes]:
    about = {"shape": pair.kind.shape, "colour": pair.kind.colour, "caption": pair.caption}
    return {"__key__": key, "jpg": pair.jpeg, "txt": pair.caption.encode(), "json": json.dumps(about).encode()}
