"""Captioned images from JSON Lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.record import CaptionedImage, value_of
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import parse_json, text_encoding


class JsonLinesCaptions(CaptionedImages):
    """Lines of ``{"image": "a.jpg", "caption": "..."}`` or ``{"image": "a.jpg", "captions": ["...", ...]}``.

    An image may have several lines; the key of an image is its name.

    Args:
        path: The file; blank lines are counted and left out.
        images: The folder that names of images start from.
        rejects: See `CaptionedImages`.
    """

    def __init__(self, path: Path, images: Path, rejects: Rejects | None = None) -> None:
        super().__init__(path, rejects)
        self.images = images

    def _read(self) -> Iterator[CaptionedImage]:
        # What is not in the encoding becomes U+FFFD, so that one such line does not end the reading.
        with self.path.open(encoding=text_encoding(self.path), errors="replace", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if line.isspace():
                    self.skipped["blank line"] += 1
                    continue
                record = f"line {number}"
                try:
                    content = parse_json(line, file=self.path, record=record)
                    name = value_of(content, "image", str)
                    captions, key = _captions(content)
                except InputError as error:
                    self._set_aside(self._placed(error, record))
                    continue
                kept = self._clean(captions, self.path, record, key)
                if kept and (file := self._image(self.images, name, record, "image")) is not None:
                    yield CaptionedImage(name, file, kept)


def _captions(content: dict[str, Any]) -> tuple[list[Any], str]:
    """Return captions and the key that they stand under."""
    if isinstance(content.get("captions"), list):
        return content["captions"], "captions"
    if "caption" not in content:
        raise InputError("there is no caption", key="caption", mend="add caption or captions")
    return [content["caption"]], "caption"
