"""Captioned images from WebDataset tar shards: their places are read, the images stay where they are."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from webdataset.tariterators import base_plus_ext

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.index import indexed
from regionclip.data.captions.record import CaptionedImage
from regionclip.data.captions.table import CaptionTable
from regionclip.data.pictures import ImageSpan
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError

_IMAGES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "json")


class ShardedCaptions(CaptionedImages):
    """Tar shards as img2dataset writes them: KEY.jpg and KEY.txt, or a KEY.json with "caption" or "captions".

    The stock readers of WebDataset stream the images' bytes; training reads a shard's images in any order and resumes
    at any of them, so this one takes their places from the tar headers.

    Args:
        path: A shard, or the folder that holds them.
        rejects: See `CaptionedImages`; of a shard that is cut, the whole samples before the cut are kept.
    """

    def __init__(self, path: Path, rejects: Rejects | None = None) -> None:
        super().__init__(path, rejects)
        self.shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]

    def table(self) -> CaptionTable:
        """Return the table of the index beside the shards, which the first call writes."""
        return indexed(self, self.shards)

    def iter_captions(self) -> Iterator[str]:
        """Yield every caption, from the index: the images' bytes are passed over once, when it is made."""
        return self.table().iter_captions()

    def _read(self) -> Iterator[CaptionedImage]:
        for shard in self.shards:
            with shard.open("rb") as content:
                for key, parts in self._samples(shard):
                    image = next((parts[suffix] for suffix in _IMAGES if suffix in parts), None)
                    if image is None:
                        self._leave_out("no image", shard, key, None, "write the sample again, or take it out")
                        continue
                    texts = {name: _part(content, parts[name]) for name in _TEXTS if name in parts}
                    captions = self._captions(shard, key, texts)
                    if captions:
                        yield CaptionedImage(key, ImageSpan(shard, image.offset_data, image.size), captions)

    def _samples(self, shard: Path) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
        """Yield the key of each sample and its parts by suffix; members of one key stand behind each other."""
        current: str | None = None
        parts: dict[str, tarfile.TarInfo] = {}
        for member in self._members(shard):
            key, suffix = base_plus_ext(member.name)
            if not member.isreg() or key is None:
                continue
            if key != current:
                if current is not None:
                    yield current, parts
                current, parts = key, {}
            if suffix.lower() in parts:
                mend = "write the shard again"
                self._set_aside(InputError("the file is there twice", file=shard, record=member.name, mend=mend))
            else:
                parts[suffix.lower()] = member
        if current is not None:
            yield current, parts

    def _members(self, shard: Path) -> Iterator[tarfile.TarInfo]:
        """Yield the whole members of a shard; a cut or another damage is an error of the shard."""
        end, name = shard.stat().st_size, None
        try:
            with tarfile.open(shard, "r:") as tar:
                for member in tar:
                    if member.offset_data + member.size > end:
                        raise tarfile.ReadError("unexpected end of data")
                    name = member.name
                    yield member
                # tarfile takes a damaged header for the end; a whole archive ends with blocks of zeros.
                tar.fileobj.seek(tar.offset)
                if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("unexpected end of data")
        except (tarfile.TarError, OSError) as error:
            problem = f"the shard cannot be read ({error.args[0]})"
            record = name and f"after {name}"
            self._set_aside(InputError(problem, file=shard, record=record, mend="fetch it again"))

    def _captions(self, shard: Path, key: str, texts: dict[str, bytes]) -> tuple[str, ...]:
        """Return the clean captions of a sample; none where it was left out."""
        name = next(iter(texts), "txt")
        try:
            if "txt" in texts:
                captions = [texts["txt"].decode()]
            else:
                about = json.loads(texts.get("json", b"{}"))
                captions = about.get("captions", [about["caption"]] if "caption" in about else [])
                if not isinstance(captions, list):
                    raise ValueError("captions is no list")
        except (ValueError, AttributeError, TypeError) as error:
            problem = f"the caption cannot be read ({error})"
            mend = "write it as UTF-8 text or JSON"
            self._set_aside(InputError(problem, file=shard, record=key, key=name, mend=mend))
            return ()
        return self._clean(captions, shard, key, name)


def _part(content: BinaryIO, member: tarfile.TarInfo) -> bytes:
    content.seek(member.offset_data)
    return content.read(member.size)
