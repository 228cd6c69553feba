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
    pattern = f"{str(folder).replace('%', '%%')}/%05d.tar"
    with webdataset.ShardWriter(pattern, maxcount=SHARD_SIZE, verbose=0, encoder=False, mtime=0) as writer:
        for number, pair in enumerate(pairs):
            shard, place = divmod(number, SHARD_SIZE)
            writer.write(_sample(f"{shard:05d}{place:04d}", pair))
        return writer.total


def _sample(key: str, pair: Pair) -> dict[str, str | bytes]:
    about = {"shape": pair.kind.shape, "colour": pair.kind.colour, "caption": pair.caption}
    return {"__key__": key, "jpg": pair.jpeg, "txt": pair.caption.encode(), "json": json.dumps(about).encode()}
