"""Captioned images from a COCO captions JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.record import CaptionedImage, image_key, value_of
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import read_json


class CocoCaptions(CaptionedImages):
    """A COCO captions JSON (``images``: id, file_name; ``annotations``: image_id, caption) and its folder of images.

    Of two images of one id nobody can tell whose the captions are, so all of them are broken records.

    Args:
        path: The JSON file.
        images: The folder of images.
        rejects: See `CaptionedImages`.

    Raises:
        InputError: The file is no such JSON; without ``rejects`` also where a record is broken or an annotation names
            an unknown image.
    """

    def __init__(self, path: Path, images: Path, rejects: Rejects | None = None) -> None:
        super().__init__(path, rejects)
        content = read_json(path)
        pictures, annotations = (self._records(content, key) for key in ("images", "annotations"))
        self._listed = {"images": len(pictures), "captions": len(annotations)}
        self._images = images
        self._names: dict[str, str] = {}
        self._captions: dict[str, list[Any]] = {}
        self._twice: set[str] = set()
        self._broken: list[InputError] = []
        self._take("images", pictures, self._add_picture)
        self._take("annotations", annotations, self._add_caption)

    @property
    def listed(self) -> dict[str, int]:
        """How many images and captions the file lists, bad ones too."""
        return self._listed

    def _take(self, part: str, records: list[Any], add: Callable[[Any], None]) -> None:
        """Add records; keep the errors of broken ones for the reading, which sets them aside."""
        for number, record in enumerate(records):
            try:
                add(record)
            except InputError as error:
                placed = self._placed(error, f"{part}[{number}]")
                if self.rejects is None:
                    raise placed from None
                self._broken.append(placed)

    def _add_picture(self, record: Any) -> None:
        key, name = _key(record, "id"), value_of(record, "file_name", str)
        if key in self._names:
            if name != self._names[key]:
                self._twice.add(key)
            problem, mend = f"an image before has its id ({key})", "give it an id of its own, or take one of them out"
            raise InputError(problem, key="id", mend=mend)
        self._names[key], self._captions[key] = name, []

    def _add_caption(self, record: Any) -> None:
        key, caption = _key(record, "image_id"), value_of(record, "caption")
        if key not in self._captions:
            problem = f"its image is not among the images ({key})"
            raise InputError(problem, key="image_id", mend="add the image, or take the caption out")
        if key in self._twice:
            mend = "give each image an id of its own"
            raise InputError(f"several images have the id of its image ({key})", key="image_id", mend=mend)
        self._captions[key].append(caption)

    def _records(self, content: Any, key: str) -> list[Any]:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError("the list is missing", file=self.path, key=key, mend="give a COCO captions JSON")
        return content[key]

    def _read(self) -> Iterator[CaptionedImage]:
        for error in self._broken:
            self._set_aside(error)
        for key, name in self._names.items():
            record = f"image {key}"
            if key in self._twice:
                problem, mend = "an image behind has its id", "give it an id of its own, or take one of them out"
                self._set_aside(InputError(problem, file=self.path, record=record, key="id", mend=mend))
                continue
            captions = self._clean(self._captions[key], self.path, record, "caption")
            if captions and (file := self._image(self._images, name, record, "file_name")) is not None:
                yield CaptionedImage(key, file, captions)


def _key(record: Any, key: str) -> str:
    try:
        return image_key(value_of(record, key))
    except InputError as error:
        raise InputError(error.problem, key=key, mend=error.mend) from None
