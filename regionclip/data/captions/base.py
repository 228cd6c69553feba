"""What every source of captioned images gives: keys, undecoded images, captions, and a count of what it left out."""

from __future__ import annotations

import re
import stat
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from regionclip.data.captions.table import CaptionedImage, CaptionTable, indexed
from regionclip.data.pictures import inside
from regionclip.data.rejects import Rejects, reason
from regionclip.errors import InputError

LONGEST_KEY = 255
"""Bytes of an image's id, or of its key in a shard or TSV."""

LONGEST = 1000
"""Characters; CLIP reads about 300, and COCO's longest has 250."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and ends of lines

_KINDS = {str: "text", list: "a list"}
_MEND = "mend the caption, or take it out"


class CaptionedImages(ABC):
    """A source that can be read again and again, always in the same order.

    Without ``rejects`` a broken record stops the reading, and records without image or caption are counted. With
    ``rejects`` all of them are set aside there with their reason, images that are not there among them, and the reading
    stops at its end if they are too many.

    Attributes:
        path: The file or folder it reads.
        shards: Its files where they are large ones with the images in them; else none.
        skipped: How many records the last reading left out, by reason.
        rejected: The records that the last reading set aside.
    """

    shards: Sequence[Path] = ()

    def __init__(self, path: Path, rejects: Rejects | None = None) -> None:
        self.path, self.rejects = path, rejects
        self.skipped: Counter[str] = Counter()
        self.rejected: list[InputError] = []

    def __iter__(self) -> Iterator[CaptionedImage]:
        """Yield the records that have image and caption, as they stand: a file may have several of one image.

        Raises:
            InputError: A record is broken, or too many were set aside.
        """
        self.skipped.clear()
        self.rejected.clear()
        count = 0
        for record in self._read():
            count += 1
            yield record
        self.check_limit(count)

    def iter_captions(self) -> Iterator[str]:
        """Yield every caption that is not empty; no image is decoded."""
        return self.table().iter_captions()

    @property
    def listed(self) -> dict[str, int]:
        """How many images and captions the source lists, those that are set aside too; it may be read for that."""
        table = self.table()
        return {"images": len(table) + len(self.rejected), "captions": len(table.captions)}

    def table(self) -> CaptionTable:
        """Read the source into a table for access by number, each image once with all its captions.

        The images are in the order of their first records; none is in the table. For `shards` it is the index beside
        them, which the first call writes.

        Raises:
            InputError: As in a reading; without ``rejects`` also where two images have one id.
        """
        return indexed(self, self.shards) if self.shards else self.distinct(CaptionTable.of(self))

    def distinct(self, table: CaptionTable) -> CaptionTable:
        """Join the captions of one image, and set aside images whose id an earlier one has; see `CaptionTable`."""
        joined, others = table.distinct()
        for key in others:
            problem, mend = "the key is there twice", "give each image a key of its own"
            self._set_aside(InputError(problem, file=self.path, record=key, mend=mend))
        if others:
            self.check_limit(len(table) - len(others))
        return joined

    @abstractmethod
    def _read(self) -> Iterator[CaptionedImage]: ...

    def check_limit(self, read: int) -> None:
        """Stop when too many records were set aside beside ``read`` good ones; see `Rejects.check`."""
        if self.rejects is not None:
            self.rejects.check(len(self.rejected), read + len(self.rejected), self.path)

    def _set_aside(self, error: InputError) -> None:
        """Set a broken record aside, or raise its error where nothing takes it."""
        if self.rejects is None:
            raise error
        self._reject(error)
        self.skipped[reason(error)] += 1

    def _leave_out(self, why: str, file: Path, record: object, key: str | None, mend: str) -> None:
        """Count a record that is no error where nothing takes bad records; set it aside where something does."""
        self.skipped[why] += 1
        if self.rejects is not None:
            self._reject(InputError(why, file=file, record=record, key=key, mend=mend))

    def _reject(self, error: InputError) -> None:
        self.rejects.add(error)
        self.rejected.append(error)

    def _placed(
        self, error: InputError, record: object, key: str | None = None, file: Path | None = None
    ) -> InputError:
        """Return the error of a value with the place that whoever looked at the value did not know."""
        return InputError(error.problem, file=file or self.path, record=record, key=error.key or key, mend=error.mend)

    def _clean(self, captions: Iterable[object], file: Path, record: object, key: str) -> tuple[str, ...]:
        """Strip captions and drop the empty ones, counting them; count the record where there are no others."""
        kept, empty, bad = [], 0, 0
        for caption in captions:
            text = caption.strip() if isinstance(caption, str) else None
            if text == "":
                empty += 1
            elif text is None or (problem := caption_fault(text)):
                bad += 1
                problem, mend = ("a caption is not text", "write a string") if text is None else (problem, _MEND)
                self._set_aside(InputError(problem, file=file, record=record, key=key, mend=mend))
            else:
                kept.append(text)
        if empty:
            self.skipped["empty caption"] += empty
        if not kept and not bad:
            self._leave_out("image without caption", file, record, key, "caption the image, or take it out")
        elif empty and self.rejects is not None:
            self._reject(InputError("empty caption", file=file, record=record, key=key, mend="take it out"))
        return tuple(kept)

    def _image(self, folder: Path, name: str, record: object, key: str) -> Path | None:
        """Return the file of an image; None where it was set aside.

        Whether it has bytes is looked at only where bad records are set aside.
        """
        mend = f"put {folder / name} there, or take its record out"
        try:
            image = inside(folder, name)
            about = image.stat() if self.rejects is not None else None
        except InputError as error:
            problem, mend = error.problem, error.mend
        except (FileNotFoundError, NotADirectoryError):
            problem = "the image does not exist"
        except OSError as error:
            problem = f"the image cannot be read ({error.strerror})"
        else:
            if about is None or (stat.S_ISREG(about.st_mode) and about.st_size):
                return image
            problem = "the image has no bytes" if stat.S_ISREG(about.st_mode) else "the image does not exist"
        self._set_aside(InputError(problem, file=self.path, record=record, key=key, mend=mend))
        return None


def value_of(record: object, key: str, kind: type = object) -> Any:
    """Return a value of a record of JSON.

    Raises:
        InputError: The record is no object, lacks the key or has another kind there; without file and record, which
            the caller knows.
    """
    if not isinstance(record, dict) or key not in record:
        raise InputError("the key is missing", key=key, mend="add it")
    if not isinstance(record[key], kind):
        raise InputError(f"the value is not {_KINDS[kind]}", key=key, mend=f"write {_KINDS[kind]}")
    return record[key]


def image_key(value: object, key: str | None = None) -> str:
    """Return an id, which stands under ``key`` in its record, as the key of an image, so that 1 and "1" are one.

    Raises:
        InputError: It is no integer of 64 bits and no text of 1 to `LONGEST_KEY` bytes of UTF-8.
    """
    if type(value) is int and -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, str):
        try:
            if 0 < len(value.encode()) <= LONGEST_KEY:
                return value
        except UnicodeEncodeError:
            pass
    mend = f"give the image an integer of 64 bits, or a text of at most {LONGEST_KEY} bytes"
    raise InputError("the id is neither an integer nor a short text", key=key, mend=mend)


def caption_fault(caption: str) -> str | None:
    """Return what is wrong with a caption, or None.

    Emoji, accents and other scripts are no fault. Bytes of Latin-1 that were read as UTF-8 leave U+FFFD, or control
    characters where they were taken for Unicode.
    """
    if not caption.strip():
        return "the caption is empty"
    if len(caption) > LONGEST:
        return f"the caption has more than {LONGEST} characters"
    if _CONTROL.search(caption):
        return "the caption has control characters"
    if "\ufffd" in caption:
        return "the caption was not UTF-8"
    return None
