"""Captioned images from JSON: a COCO captions file, a Karpathy split, JSON Lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from regionclip.data.captions.base import CaptionedImages, image_key, value_of
from regionclip.data.captions.table import CaptionedImage
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import parse_json, read_json, text_encoding

KARPATHY_TRAIN = ("train", "restval")
"""The splits that are trained on; COCO's restval is what of val2014 is in neither val nor test."""


class CocoCaptions(CaptionedImages):
    """A COCO captions JSON (``images``: id, file_name; ``annotations``: image_id, caption) and its folder of images.

    Of two images of one id nobody can tell whose the captions are, so all of them are broken records.

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
        key = image_key(value_of(record, "id"), "id")
        name = value_of(record, "file_name", str)
        if key in self._names:
            if name != self._names[key]:
                self._twice.add(key)
            problem, mend = f"an image before has its id ({key})", "give it an id of its own, or take one of them out"
            raise InputError(problem, key="id", mend=mend)
        self._names[key], self._captions[key] = name, []

    def _add_caption(self, record: Any) -> None:
        key = image_key(value_of(record, "image_id"), "image_id")
        caption = value_of(record, "caption")
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


class KarpathyCaptions(CaptionedImages):
    """Splits of a Karpathy JSON (``images``: filename, split, sentences with ``raw``; COCO also filepath).

    Karpathy and Fei-Fei, CVPR 2015; the test splits have 1,000 (Flickr30K) and 5,000 images (COCO).

    Args:
        path: The JSON file.
        images: The folder that file names start from.
        splits: ``train``, ``val``, ``test`` or COCO's ``restval``; several are read as one.
        rejects: See `CaptionedImages`.

    Raises:
        InputError: The file is no such JSON, or no image is of these splits.
    """

    def __init__(
        self, path: Path, images: Path, splits: tuple[str, ...] = ("test",), rejects: Rejects | None = None
    ) -> None:
        super().__init__(path, rejects)
        content = read_json(path)
        records = content.get("images") if isinstance(content, dict) else None
        if not isinstance(records, list):
            raise InputError("the list is missing", file=path, key="images", mend="give a Karpathy JSON")
        self._images = images
        # What does not say its split is kept for the reading, which sets it aside.
        self._records = [(number, record) for number, record in enumerate(records) if _split(record) in (None, *splits)]
        if not self._records:
            problem, mend = f"no image is of the split '{' or '.join(splits)}'", "use train, val or test"
            raise InputError(problem, file=path, key="split", mend=mend)

    @property
    def listed(self) -> dict[str, int]:
        """How many images and captions the file lists in these splits, bad ones too."""
        sentences = [record.get("sentences") if isinstance(record, dict) else None for _, record in self._records]
        return {"images": len(sentences), "captions": sum(len(s) for s in sentences if isinstance(s, list))}

    def _read(self) -> Iterator[CaptionedImage]:
        for number, record in self._records:
            place = f"images[{number}]"
            try:
                value_of(record, "split", str)
                name = value_of(record, "filename", str)
                if record.get("filepath", "") != "":
                    name = f"{value_of(record, 'filepath', str)}/{name}"
                raw = [value_of(sentence, "raw") for sentence in value_of(record, "sentences", list)]
            except InputError as error:
                self._set_aside(self._placed(error, place))
                continue
            captions = self._clean(raw, self.path, place, "sentences")
            if captions and (file := self._image(self._images, name, place, "filename")) is not None:
                yield CaptionedImage(str(PurePosixPath(name)), file, captions)


def _split(record: Any) -> str | None:
    split = record.get("split") if isinstance(record, dict) else None
    return split if isinstance(split, str) else None


class JsonLinesCaptions(CaptionedImages):
    """Lines of ``{"image": "a.jpg", "caption": "..."}`` or ``{"image": "a.jpg", "captions": ["...", ...]}``.

    An image may have several lines; the key of an image is its name, which starts from the folder ``images``. Blank
    lines are counted and left out.
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
