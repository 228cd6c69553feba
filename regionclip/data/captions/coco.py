"""Captioned images from a COCO captions JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.record import CaptionedImage
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import read_json


class CocoCaptions(CaptionedImages):
    """A COCO captions JSON (``images``: id, file_name; ``annotations``: image_id, caption) and its folder of images.

    Args:
        path: The JSON file.
        images: The folder of images.
        rejects: See `CaptionedImages`.

    Raises:
        InputError: The file is no such JSON; without ``rejects`` also where a key is missing or an annotation names an
            unknown image.
    """

    def __init__(self, path: Path, images: Path, rejects: Rejects | None = None) -> None:
        super().__init__(path, rejects)
        content = read_json(path)
        pictures, annotations = (self._records(content, key) for key in ("images", "annotations"))
        self._listed = {"images": len(pictures), "captions": len(annotations)}
        self._files: dict[Any, Path] = {}
        self._captions: dict[Any, list[Any]] = {}
        self._broken: list[InputError] = []
        for number, record in enumerate(pictures):
            self._take(self._add_picture, record, f"images[{number}]", images)
        for number, record in enumerate(annotations):
            self._take(self._add_caption, record, f"annotations[{number}]")

    @property
    def listed(self) -> dict[str, int]:
        """How many images and captions the file lists, bad ones too."""
        return self._listed

    def _take(self, add: Callable[..., None], *values: Any) -> None:
        """Add a record; keep the error of a broken one for the reading, which sets it aside."""
        try:
            add(*values)
        except InputError as error:
            if self.rejects is None:
                raise
            self._broken.append(error)

    def _add_picture(self, record: Any, name: str, images: Path) -> None:
        identity = self._value(record, name, "id")
        self._files[identity] = images / self._value(record, name, "file_name")
        self._captions[identity] = []

    def _add_caption(self, record: Any, name: str) -> None:
        identity = self._value(record, name, "image_id")
        if identity not in self._captions:
            problem = f"its image is not among the images ({identity})"
            mend = "add the image, or take the caption out"
            raise InputError(problem, file=self.path, record=name, key="image_id", mend=mend)
        self._captions[identity].append(self._value(record, name, "caption"))

    def _records(self, content: Any, key: str) -> list[Any]:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError("the list is missing", file=self.path, key=key, mend="give a COCO captions JSON")
        return content[key]

    def _value(self, record: Any, name: str, key: str) -> Any:
        if not isinstance(record, dict) or key not in record:
            raise InputError("the key is missing", file=self.path, record=name, key=key, mend="add it")
        return record[key]

    def _read(self) -> Iterator[CaptionedImage]:
        for error in self._broken:
            self._set_aside(error)
        for identity, file in self._files.items():
            record = f"image {identity}"
            captions = self._clean(self._captions[identity], self.path, record, "caption")
            if captions and self._is_there(file, self.path, record, "file_name"):
                yield CaptionedImage(str(identity), file, captions)
