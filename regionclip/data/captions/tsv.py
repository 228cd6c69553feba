"""Captioned images from the official pretraining's pairs of TSV files, images as base64."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from regionclip.data.captions.base import CaptionedImages, image_key, value_of
from regionclip.data.captions.table import CaptionedImage
from regionclip.data.pictures import ImageSpan
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import parse_json, text_encoding

# Official data/clip_datasets/clip_img_txt_pair_tsv.py: which part of an image file's name makes the text file's.
_TEXT_NAMES = (("images", "text"), ("image", "text"), ("img", "caption"))


class TsvCaptions(CaptionedImages):
    """``images.tsv`` (key, TAB, base64 of the image) and ``text.tsv`` (key, TAB, text), row by row of the same key.

    A text is a caption, or JSON with the list ``captions``. Names are those that the official code takes: ``images``
    and ``text``, ``image`` and ``text``, ``img`` and ``caption``. All rows count; where they start is found by reading
    them once, so the ``.lineidx`` beside a TSV is not needed.

    Raises:
        InputError: There is no image file, its text file is missing, or a ``.linelist`` chooses some of the rows.
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
        for chosen in (file.with_suffix(".linelist") for file in self.shards):
            if chosen.exists():
                mend = "write these rows to files of their own, or delete it, then all rows are read"
                raise InputError("a list that chooses rows is not read", file=chosen, mend=mend)

    def _read(self) -> Iterator[CaptionedImage]:
        for images, texts in self._pairs:
            encodings = [_encoding(file) for file in (images, texts)]
            with images.open("rb") as image_rows, texts.open("rb") as text_rows:
                end = 0
                for number, (image, text) in enumerate(zip_longest(image_rows, text_rows), 1):
                    end += len(image or b"")
                    record = f"row {number}"
                    try:
                        if image is None or text is None:
                            problem = f"one file has more rows than the other ({images.name}, {texts.name})"
                            raise InputError(problem, mend="write both again")
                        key, content = _cells(image, encodings[0])
                        text_key, cell = _cells(text, encodings[1])
                        if key != text_key:
                            problem = f"the keys differ (image {key!r}, text {text_key!r})"
                            raise InputError(problem, mend="write both files in one order")
                        captions = _captions(cell.decode(encodings[1], "replace"))
                    except InputError as error:
                        self._set_aside(self._placed(error, record, file=images))
                        continue
                    if kept := self._clean(captions, texts, record, "captions"):
                        place = ImageSpan(images, end - len(content), len(content), base64=True)
                        yield CaptionedImage(key, place, kept)


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


def _cells(row: bytes, encoding: str) -> tuple[str, bytes]:
    """Return a row's key and what stands behind its TAB."""
    key, tab, content = row.partition(b"\t")
    if not tab:
        raise InputError("no row of key, TAB and value", mend="write it again")
    try:
        return image_key(key.decode(encoding).removeprefix("\ufeff")), content
    except UnicodeDecodeError:
        raise InputError("the key is not UTF-8", mend="write it again") from None


def _captions(text: str) -> list[object]:
    try:
        content = parse_json(text, file="the text")
    except InputError:
        return [text]
    return value_of(content, "captions", list) if isinstance(content, dict) else [text]
