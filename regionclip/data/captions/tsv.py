"""Captioned images from the official pretraining's pairs of TSV files, images as base64."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

import numpy as np

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.index import indexed
from regionclip.data.captions.record import CaptionedImage
from regionclip.data.captions.table import CaptionTable
from regionclip.data.pictures import ImageSpan
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError

# Official data/clip_datasets/clip_img_txt_pair_tsv.py: which part of an image file's name makes the text file's.
_TEXT_NAMES = (("images", "text"), ("image", "text"), ("img", "caption"))
_LONGEST_KEY = 4096


class TsvCaptions(CaptionedImages):
    """``images.tsv`` (key, TAB, base64 of the image) and ``text.tsv`` (key, TAB, text), row by row of the same key.

    A text is a caption, or JSON with the list ``captions``. Names are those that the official code takes: ``images``
    and ``text``, ``image`` and ``text``, ``img`` and ``caption``. A ``.lineidx`` (a row's first byte a line) beside a
    TSV says which rows count and saves reading the images; a ``.linelist`` (numbers of rows, from 0) takes some of
    them. Without a ``.lineidx`` the rows are found.

    Args:
        path: An image file, or the folder that holds them.
        rejects: See `CaptionedImages`.

    Raises:
        InputError: There is no image file, or its text file is missing.
    """

    def __init__(self, path: Path, rejects: Rejects | None = None) -> None:
        super().__init__(path, rejects)
        images = sorted(path.glob("*.tsv")) if path.is_dir() else [path]
        self._pairs = [(file, text) for file in images if (text := _text_file(file)) is not None]
        if not self._pairs:
            mend = "name image files images*.tsv, and their texts text*.tsv"
            raise InputError("there is no TSV of images", file=path, mend=mend)
        for _, text in self._pairs:
            if not text.exists():
                raise InputError("the file of texts does not exist", file=text, mend="put it beside the images")

    @property
    def shards(self) -> list[Path]:
        """All its files."""
        return [file for pair in self._pairs for file in pair]

    def table(self) -> CaptionTable:
        """Return the table of the index beside the files, which the first call writes."""
        line_indexes = [file for tsv in self.shards if (file := tsv.with_suffix(".lineidx")).exists()]
        return indexed(self, [*self.shards, *line_indexes])

    def iter_captions(self) -> Iterator[str]:
        """Yield every caption, from the index: the images' bytes are passed over once, when it is made."""
        return self.table().iter_captions()

    def _read(self) -> Iterator[CaptionedImage]:
        for images, texts in self._pairs:
            with images.open("rb") as image_rows, texts.open("rb") as text_rows:
                pairs = zip_longest(_rows(image_rows, images), _rows(text_rows, texts))
                for number, (image, text) in enumerate(pairs, 1):
                    if image is None or text is None:
                        problem = f"one file has more rows than the other ({images.name}, {texts.name})"
                        self._set_aside(
                            InputError(problem, file=images, record=f"row {number}", mend="write both again")
                        )
                        break
                    record = self._record(images, number, image_rows, image, text_rows, text)
                    if record is not None:
                        yield record

    def _record(
        self, file: Path, number: int, images: BinaryIO, image: tuple[int, int], texts: BinaryIO, text: tuple[int, int]
    ) -> CaptionedImage | None:
        """Return the record of two rows, each given by first byte and size; None where it was set aside."""
        name = f"row {number}"
        try:
            key, start = _key(images, *image, file, name)
            text_key, text_start = _key(texts, *text, _text_file(file), name)
            if key != text_key:
                problem = f"the keys differ (image {key!r}, text {text_key!r})"
                raise InputError(problem, file=file, record=name, mend="write both files in one order")
            texts.seek(text_start)
            cell = texts.read(text[1] - (text_start - text[0])).split(b"\n", 1)[0]
            captions = self._clean(_captions(cell, _text_file(file), name), _text_file(file), name, "captions")
        except InputError as error:
            self._set_aside(error)
            return None
        size = image[1] - (start - image[0])
        return CaptionedImage(key, ImageSpan(file, start, size, base64=True), captions) if captions else None


def _text_file(images: Path) -> Path | None:
    """Return the file of texts beside a file of images; None for a file that is none of images."""
    for part, other in _TEXT_NAMES:
        if part in images.name:
            return images.with_name(images.name.replace(part, other))
    return None


def _rows(content: BinaryIO, file: Path) -> Iterator[tuple[int, int]]:
    """Yield the first byte of each row and the bytes to the next one (at least: rows between may not count)."""
    index, end = file.with_suffix(".lineidx"), file.stat().st_size
    if not index.exists():
        start = 0
        for line in content:
            yield start, len(line)
            start += len(line)
            # Reading a record moves the file.
            content.seek(start)
        return
    try:
        starts = np.array(index.read_text().split(), np.int64)
    except ValueError:
        raise InputError("not one number a line", file=index, mend="delete it, then the rows are found") from None
    if len(starts) and (starts[0] < 0 or (np.diff(starts) <= 0).any() or starts[-1] >= end):
        raise InputError(f"not of {file.name} as it is", file=index, mend="delete it, then the rows are found")
    rows = np.stack([starts, np.diff(starts, append=end)], axis=1)
    if (chosen := file.with_suffix(".linelist")).exists():
        rows = rows[np.array(chosen.read_text().split(), np.int64)]
    yield from map(tuple, rows.tolist())


def _key(content: BinaryIO, start: int, size: int, file: Path, record: str) -> tuple[str, int]:
    """Return a row's key and the first byte behind its TAB."""
    content.seek(max(start - 1, 0))
    before = content.read(1) if start else b"\n"
    head = content.read(min(size, _LONGEST_KEY))
    key, tab, _ = head.partition(b"\t")
    if before != b"\n" or not tab or b"\n" in key:
        raise InputError("no row of key, TAB and value starts here", file=file, record=record, mend="write it again")
    try:
        return key.decode(), start + len(key) + 1
    except UnicodeDecodeError:
        raise InputError("the key is not UTF-8", file=file, record=record, mend="write it again") from None


def _captions(cell: bytes, file: Path, record: str) -> list[object]:
    try:
        text = cell.decode()
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 ({error.reason} at byte {error.start})"
        raise InputError(problem, file=file, record=record, mend="write the file as UTF-8") from None
    try:
        content = json.loads(text)
    except ValueError:
        return [text]
    if not isinstance(content, dict):
        return [text]
    if not isinstance(content.get("captions"), list):
        mend = "write a list of captions"
        raise InputError("the JSON has no captions", file=file, record=record, key="captions", mend=mend)
    return content["captions"]
