"""Captioned images from JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regionclip.data.captions.base import CaptionedImage, CaptionedImages
from regionclip.errors import InputError


class JsonLinesCaptions(CaptionedImages):
    """Lines of ``{"image": "a.jpg", "caption": "..."}`` or ``{"image": "a.jpg", "captions": ["...", ...]}``.

    Args:
        path: The file; blank lines are counted and left out.
        images: The folder that names of images start from.
    """

    def __init__(self, path: Path, images: Path) -> None:
        super().__init__(path)
        self.images = images

    def _read(self) -> Iterator[CaptionedImage]:
        with self.path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    self.skipped["blank line"] += 1
                    continue
                name, captions, key = self._parse(line, f"line {number}")
                kept = self._clean(captions, self.path, f"line {number}", key)
                if kept:
                    yield CaptionedImage(name, self.images / name, kept)

    def _parse(self, line: str, record: str) -> tuple[str, list[Any], str]:
        """Return the image's name, its captions and the key that they stand under."""
        try:
            content = json.loads(line)
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
