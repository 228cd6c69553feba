"""Captioned images from a COCO captions JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regionclip.data.captions.base import CaptionedImage, CaptionedImages
from regionclip.errors import InputError
from regionclip.files import read_json


class CocoCaptions(CaptionedImages):
    """A COCO captions JSON (``images``: id, file_name; ``annotations``: image_id, caption) and its folder of images.

    Args:
        path: The JSON file.
        images: The folder of images.

    Raises:
        InputError: The file is no such JSON, a key is missing, or an annotation names an unknown image.
    """

    def __init__(self, path: Path, images: Path) -> None:
        super().__init__(path)
        content = read_json(path)
        pictures, annotations = (self._records(content, key) for key in ("images", "annotations"))
        self._files = {
            self._value(record, number, "images", "id"): images / self._value(record, number, "images", "file_name")
            for number, record in enumerate(pictures)
        }
        self._captions: dict[Any, list[Any]] = {identity: [] for identity in self._files}
        for number, record in enumerate(annotations):
            identity = self._value(record, number, "annotations", "image_id")
            if identity not in self._captions:
                raise InputError(
                    f"image {identity} is not among the images",
                    file=path,
                    record=f"annotations[{number}]",
                    key="image_id",
                    mend="add the image, or take the caption out",
                )
            self._captions[identity].append(self._value(record, number, "annotations", "caption"))

    def _records(self, content: Any, key: str) -> list[Any]:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError("the list is missing", file=self.path, key=key, mend="give a COCO captions JSON")
        return content[key]

    def _value(self, record: Any, number: int, part: str, key: str) -> Any:
        if not isinstance(record, dict) or key not in record:
            raise InputError("the key is missing", file=self.path, record=f"{part}[{number}]", key=key, mend="add it")
        return record[key]

    def _read(self) -> Iterator[CaptionedImage]:
        for identity, file in self._files.items():
            captions = self._clean(self._captions[identity], self.path, f"image {identity}", "caption")
            if captions:
                yield CaptionedImage(str(identity), file, captions)
