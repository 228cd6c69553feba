"""Captioned images from WebDataset tar shards: their places are read, the images stay where they are."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from regionclip.data.captions.base import CaptionedImages, image_key, value_of
from regionclip.data.captions.table import CaptionedImage
from regionclip.data.pictures import ImageSpan
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import parse_json

# Key and suffix of a member as webdataset splits its name; webdataset itself imports torch.
_NAME = re.compile(r"((?:.*/)?[^.]+)\.([^/]*)", re.DOTALL)
_IMAGES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "json")
_LARGEST_TEXT = 1 << 20  # bytes


class ShardedCaptions(CaptionedImages):
    """Tar shards as img2dataset writes them: KEY.jpg and KEY.txt, or a KEY.json with "caption" or "captions".

    The stock readers of WebDataset stream the images' bytes; training reads a shard's images in any order and resumes
    at any of them, so this one takes their places from the tar headers.

    With ``rejects`` the whole samples of a shard that is cut, those before the cut, are kept.

    Raises:
        InputError: A shard is no file.
    """

    def __init__(self, path: Path, rejects: Rejects | None = None) -> None:
        super().__init__(path, rejects)
        self.shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        for shard in self.shards:
            if not shard.is_file():
                raise InputError("the shard is no file", file=shard, mend="fetch it again, or take it out")

    def _read(self) -> Iterator[CaptionedImage]:
        for shard in self.shards:
            with shard.open("rb") as content:
                for key, parts in self._samples(shard):
                    image = next((parts[suffix] for suffix in _IMAGES if suffix in parts), None)
                    if image is None:
                        self._leave_out("no image", shard, key, None, "write the sample again, or take it out")
                        continue
                    name = next((name for name in _TEXTS if name in parts), "txt")
                    try:
                        image_key(key)
                        captions = _captions(content, parts.get(name), shard)
                    except InputError as error:
                        self._set_aside(InputError(error.problem, file=shard, record=key, key=name, mend=error.mend))
                        continue
                    if kept := self._clean(captions, shard, key, name):
                        yield CaptionedImage(key, ImageSpan(shard, image.offset_data, image.size), kept)

    def _samples(self, shard: Path) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
        """Yield the key of each sample and its parts by suffix; members of one key stand behind each other."""
        current: str | None = None
        parts: dict[str, tarfile.TarInfo] = {}
        for member in self._members(shard):
            split = _NAME.fullmatch(member.name)
            if not member.isreg() or split is None:
                continue
            key, suffix = split[1], split[2].lower()
            if key != current:
                if current is not None:
                    yield current, parts
                current, parts = key, {}
            if suffix in parts:
                mend = "write the shard again"
                self._set_aside(InputError("the file is there twice", file=shard, record=member.name, mend=mend))
            else:
                parts[suffix] = member
        if current is not None:
            yield current, parts

    def _members(self, shard: Path) -> Iterator[tarfile.TarInfo]:
        """Yield the whole members of a shard; a cut or another damage is an error of the shard."""
        name = None
        try:
            end = shard.stat().st_size
            with tarfile.open(shard, "r:") as tar:
                for member in tar:
                    if not 0 <= member.size <= end - member.offset_data:
                        raise tarfile.ReadError("unexpected end of data")
                    name = member.name
                    yield member
                # tarfile takes a damaged header for the end; a whole archive ends with blocks of zeros.
                tar.fileobj.seek(tar.offset)
                if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("unexpected end of data")
        except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
            problem = f"the shard cannot be read ({error})"
            record = name and f"after {name}"
            self._set_aside(InputError(problem, file=shard, record=record, mend="fetch it again"))


def _captions(content: BinaryIO, member: tarfile.TarInfo | None, shard: Path) -> list[object]:
    """Return the captions in a sample's text, none where it has no text.

    Raises:
        InputError: The text is too large, or is no JSON with captions.
    """
    if member is None:
        return []
    if member.size > _LARGEST_TEXT:
        raise InputError(f"the text has {member.size} bytes (at most {_LARGEST_TEXT})", mend="write the sample again")
    content.seek(member.offset_data)
    text = content.read(member.size)
    if not member.name.lower().endswith("json"):
        return [text.decode("utf-8-sig", "replace")]
    about = parse_json(text, file=shard, record=member.name)
    if not isinstance(about, dict):
        raise InputError("the JSON is no object", mend="write caption or captions")
    if "captions" in about:
        return value_of(about, "captions", list)
    return [about["caption"]] if "caption" in about else []
