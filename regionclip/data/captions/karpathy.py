"""Captioned images of a Karpathy split: ``dataset_flickr30k.json`` and ``dataset_coco.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.record import CaptionedImage, value_of
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import read_json

TRAIN = ("train", "restval")
"""The splits that are trained on; COCO's restval is what of val2014 is in neither val nor test."""


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
