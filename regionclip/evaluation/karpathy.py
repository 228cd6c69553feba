"""Captioned images of a Karpathy split: ``dataset_flickr30k.json`` and ``dataset_coco.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regionclip.data.captions import CaptionedImage, CaptionedImages
from regionclip.errors import InputError
from regionclip.files import read_json


class KarpathyCaptions(CaptionedImages):
    """One split of a Karpathy JSON (``images``: filename, split, sentences with ``raw``; COCO also filepath).

    Karpathy and Fei-Fei, CVPR 2015; the test splits have 1,000 (Flickr30K) and 5,000 images (COCO).

    Args:
        path: The JSON file.
        images: The folder that file names start from.
        split: ``train``, ``val``, ``test`` or COCO's ``restval``.

    Raises:
        InputError: The file is no such JSON, a key is missing, or no image is of the split.
    """

    def __init__(self, path: Path, images: Path, split: str = "test") -> None:
        super().__init__(path)
        content = read_json(path)
        records = content.get("images") if isinstance(content, dict) else None
        if not isinstance(records, list):
            raise InputError("the list is missing", file=path, key="images", mend="give a Karpathy JSON")
        self._images = images
        self._records = [
            (number, record) for number, record in enumerate(records) if self._value(record, number, "split") == split
        ]
        if not self._records:
            mend = "use train, val or test"
            raise InputError(f"no image is of the split '{split}'", file=path, key="split", mend=mend)

    def _value(self, record: Any, number: int, key: str) -> Any:
        if not isinstance(record, dict) or key not in record:
            raise InputError("the key is missing", file=self.path, record=f"images[{number}]", key=key, mend="add it")
        return record[key]

    def _read(self) -> Iterator[CaptionedImage]:
        for number, record in self._records:
            name = Path(record.get("filepath", "")) / self._value(record, number, "filename")
            sentences = self._value(record, number, "sentences")
            raw = [self._value(sentence, number, "raw") for sentence in sentences]
            captions = self._clean(raw, self.path, f"images[{number}]", "sentences")
            if captions:
                yield CaptionedImage(name.as_posix(), self._images / name, captions)
