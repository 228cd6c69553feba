"""Captioned images from WebDataset tar shards."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset

from regionclip.data.captions.base import CaptionedImage, CaptionedImages
from regionclip.errors import InputError

_IMAGES = ("jpg", "jpeg", "png", "webp")


class ShardedCaptions(CaptionedImages):
    """Tar shards as img2dataset writes them: KEY.jpg and KEY.txt, or a KEY.json with "caption" or "captions".

    Args:
        path: A shard, or the folder that holds them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]

    def _read(self) -> Iterator[CaptionedImage]:
        for shard in self.shards:
            for sample in self._samples(shard):
                image = next((sample[suffix] for suffix in _IMAGES if suffix in sample), None)
                if image is None:
                    self.skipped["no image"] += 1
                    continue
                captions, key = self._captions(shard, sample)
                kept = self._clean(captions, shard, sample["__key__"], key)
                if kept:
                    yield CaptionedImage(sample["__key__"], image, kept)

    def _samples(self, shard: Path) -> Iterator[dict[str, Any]]:
        """Yield the raw samples of a shard, all of them in every process: the consumer splits, not the reader."""
        samples = webdataset.WebDataset(
            [str(shard)], shardshuffle=False, nodesplitter=None, workersplitter=None, empty_check=False
        )
        try:
            yield from samples
        except (tarfile.TarError, OSError) as error:
            raise InputError(f"the shard cannot be read ({error.args[0]})", file=shard, mend="fetch it again") from None

    def _captions(self, shard: Path, sample: dict[str, Any]) -> tuple[list[Any], str]:
        """Return the captions of a sample and the part that holds them; none where no part does."""
        try:
            if "txt" in sample:
                return [sample["txt"].decode()], "txt"
            about = json.loads(sample.get("json", b"{}"))
        except ValueError as error:
            problem = f"the caption cannot be read ({error})"
            raise InputError(
                problem, file=shard, record=sample["__key__"], mend="write it as UTF-8 text or JSON"
            ) from None
        if "captions" in about:
            return about["captions"], "json"
        return [about["caption"]] if "caption" in about else [], "json"
