"""Captioned images of a Karpathy split: ``dataset_flickr30k.json`` and ``dataset_coco.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.record import CaptionedImage
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
        InputError: The file is no such JSON, an image does not say its split, or none is of these; without ``rejects``
            also where another key is missing.
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
        self._records = [
            (number, record) for number, record in enumerate(records) if self._value(record, number, "split") in splits
        ]
        if not self._records:
            problem, mend = f"no image is of the split '{' or '.join(splits)}'", "use train, val or test"
            raise InputError(problem, file=path, key="split", mend=mend)

    @property
    def listed(self) -> dict[str, int]:
        """How many images and captions the file lists in these splits, bad ones too."""
        sentences = [record.get("sentences") for _, record in self._records]
        return {"images": len(sentences), "captions": sum(len(s) for s in sentences if isinstance(s, list))}

    def _value(self, record: Any, number: int, key: str) -> Any:
        if not isinstance(record, dict) or key not in record:
            raise InputError("the key is missing", file=self.path, record=f"images[{number}]", key=key, mend="add it")
        return record[key]

    def _read(self) -> Iterator[CaptionedImage]:
        for number, record in self._records:
            name = f"images[{number}]"
            try:
                file = Path(record.get("filepath", "")) / self._value(record, number, "filename")
                raw = [self._value(sentence, number, "raw") for sentence in self._value(record, number, "sentences")]
            except InputError as error:
                self._set_aside(error)
                continue
            captions = self._clean(raw, self.path, name, "sentences")
            if captions and self._is_there(self._images / file, self.path, name, "filename"):
                yield CaptionedImage(file.as_posix(), self._images / file, captions)
