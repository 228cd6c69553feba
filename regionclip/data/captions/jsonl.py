"""Captioned images from JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.record import CaptionedImage
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError


class JsonLinesCaptions(CaptionedImages):
    """Lines of ``{"image": "a.jpg", "caption": "..."}`` or ``{"image": "a.jpg", "captions": ["...", ...]}``.

    Args:
        path: The file; blank lines are counted and left out.
        images: The folder that names of images start from.
        rejects: See `CaptionedImages`.
    """

    def __init__(self, path: Path, images: Path, rejects: Rejects | None = None) -> None:
        super().__init__(path, rejects)
        self.images = images

    def _read(self) -> Iterator[CaptionedImage]:
        # Bytes, so that one line in another encoding does not end the reading.
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    self.skipped["blank line"] += 1
                    continue
                record = f"line {number}"
                try:
                    name, captions, key = self._parse(line, record)
                except InputError as error:
                    self._set_aside(error)
                    continue
                kept = self._clean(captions, self.path, record, key)
                if kept and self._is_there(self.images / name, self.path, record, "image"):
                    yield CaptionedImage(name, self.images / name, kept)

    def _parse(self, line: bytes, record: str) -> tuple[str, list[Any], str]:
        """Return the image's name, its captions and the key that they stand under."""
        try:
            content = json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            problem = f"not UTF-8 ({error.reason} at byte {error.start})"
            raise InputError(problem, file=self.path, record=record, mend="write the file as UTF-8") from None
        except json.JSONDecodeError as error:
            raise InputError(
                f"not JSON ({error})", file=self.path, record=record, mend="mend or delete the line"
            ) from None
        if not isinstance(content, dict) or not isinstance(content.get("image"), str):
            raise InputError("the image's name is missing", file=self.path, record=record, key="image", mend="add it")
        if isinstance(content.get("captions"), list):
            return content["image"], content["captions"], "captions"
        if "caption" not in content:
            raise InputError(
                "there is no caption", file=self.path, record=record, key="caption", mend="add caption or captions"
            )
        return content["image"], [content["caption"]], "caption"
