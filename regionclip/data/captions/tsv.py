"""Captioned images from the official pretraining's pairs of TSV files, images as base64."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

import numpy as np

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.index import indexed
from regionclip.data.captions.record import CaptionedImage, image_key, value_of
from regionclip.data.captions.table import CaptionTable
from regionclip.data.pictures import ImageSpan
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import parse_json, read_text, text_encoding

# Official data/clip_datasets/clip_img_txt_pair_tsv.py: which part of an image file's name makes the text file's.
_TEXT_NAMES = (("images", "text"), ("image", "text"), ("img", "caption"))
_HEAD = 512  # bytes of a row that hold its key


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
            if not text.is_file():
                raise InputError("the file of texts does not exist", file=text, mend="put it beside the images")
        self.shards = [file for pair in self._pairs for file in pair]

    def table(self) -> CaptionTable:
        """Return the table of the index beside the files, which the first call writes."""
        line_indexes = [file for tsv in self.shards if (file := tsv.with_suffix(".lineidx")).exists()]
        return indexed(self, [*self.shards, *line_indexes])

    def _read(self) -> Iterator[CaptionedImage]:
        for images, texts in self._pairs:
            encodings = _encoding(images), _encoding(texts)
            with images.open("rb") as image_rows, texts.open("rb") as text_rows:
                pairs = zip_longest(_rows(image_rows, images), _rows(text_rows, texts))
                for number, (image, text) in enumerate(pairs, 1):
                    if image is None or text is None:
                        problem = f"one file has more rows than the other ({images.name}, {texts.name})"
                        self._set_aside(
                            InputError(problem, file=images, record=f"row {number}", mend="write both again")
                        )
                        continue
                    record = self._record(images, number, image_rows, image, text_rows, text, encodings)
                    if record is not None:
                        yield record

    def _record(
        self,
        file: Path,
        number: int,
        images: BinaryIO,
        image: tuple[int, int],
        texts: BinaryIO,
        text: tuple[int, int],
        encodings: tuple[str, str],
    ) -> CaptionedImage | None:
        """Return the record of two rows, each given by first byte and size; None where it was set aside."""
        name, text_file = f"row {number}", _text_file(file)
        try:
            key, start = _key(images, *image, encodings[0])
            text_key, text_start = _key(texts, *text, encodings[1])
            if key != text_key:
                problem = f"the keys differ (image {key!r}, text {text_key!r})"
                raise InputError(problem, mend="write both files in one order")
            texts.seek(text_start)
            cell = texts.read(text[1] - (text_start - text[0])).split(b"\n", 1)[0]
            captions = _captions(cell.decode(encodings[1], "replace"))
        except InputError as error:
            self._set_aside(InputError(error.problem, file=file, record=name, key=error.key, mend=error.mend))
            return None
        kept = self._clean(captions, text_file, name, "captions")
        size = image[1] - (start - image[0])
        return CaptionedImage(key, ImageSpan(file, start, size, base64=True), kept) if kept else None


def _text_file(images: Path) -> Path | None:
    """Return the file of texts beside a file of images; None for a file that is none of images."""
    for part, other in _TEXT_NAMES:
        if part in images.name:
            return images.with_name(images.name.replace(part, other))
    return None


def _encoding(file: Path) -> str:
    encoding = text_encoding(file)
    if encoding.startswith(("utf-16", "utf-32")):
        # Rows are found, and indexes written, by bytes.
        raise InputError(f"its rows are in {encoding}", file=file, mend="save the file as UTF-8")
    # A mark is a part of the first row's bytes.
    return encoding.removesuffix("-sig")


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
    starts = _numbers(index, "delete it, then the rows are found")
    if len(starts) and (starts[0] < 0 or (np.diff(starts) <= 0).any() or starts[-1] >= end):
        raise InputError(f"not of {file.name} as it is", file=index, mend="delete it, then the rows are found")
    rows = np.stack([starts, np.diff(starts, append=end)], axis=1)
    if (chosen := file.with_suffix(".linelist")).exists():
        numbers = _numbers(chosen, "delete it, then all rows are read")
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(rows):
            raise InputError(f"not of {index.name} as it is", file=chosen, mend="delete it, then all rows are read")
        rows = rows[numbers]
    yield from map(tuple, rows.tolist())


def _numbers(file: Path, mend: str) -> np.ndarray:
    try:
        return np.array(read_text(file).split(), np.int64)
    except (ValueError, OverflowError):
        raise InputError("not one number a line", file=file, mend=mend) from None


def _key(content: BinaryIO, start: int, size: int, encoding: str) -> tuple[str, int]:
    """Return a row's key and the first byte behind its TAB."""
    content.seek(max(start - 1, 0))
    before = content.read(1) if start else b"\n"
    head = content.read(min(size, _HEAD))
    key, tab, _ = head.partition(b"\t")
    if before != b"\n" or not tab or b"\n" in key:
        raise InputError("no row of key, TAB and value starts here", mend="write it again")
    try:
        return image_key(key.decode(encoding).removeprefix("\ufeff")), start + len(key) + 1
    except UnicodeDecodeError:
        raise InputError("the key is not UTF-8", mend="write it again") from None


def _captions(text: str) -> list[object]:
    try:
        content = parse_json(text, file="the text")
    except InputError:
        return [text]
    return value_of(content, "captions", list) if isinstance(content, dict) else [text]
