"""What every source of captioned images gives: keys, undecoded images, captions, and a count of what it left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image

from regionclip.data.captions.faults import caption_fault
from regionclip.data.captions.record import CaptionedImage
from regionclip.data.captions.table import CaptionTable
from regionclip.data.pictures import ImageSpan, decode_image
from regionclip.data.rejects import Rejects, reason
from regionclip.errors import InputError

_T = TypeVar("_T")


class CaptionedImages(ABC):
    """A source that can be read again and again, always in the same order.

    Without ``rejects`` a broken record stops the reading, and records without image or caption are counted. With
    ``rejects`` all of them are set aside there with their reason, images that are not there among them, and the reading
    stops at its end if they are too many.

    Args:
        path: The file or folder it reads.
        rejects: Takes the bad records; None: they are errors.

    Attributes:
        path: The file or folder it reads.
        skipped: How many records the last reading left out, by reason.
        rejected: The records that the last reading set aside.
    """

    def __init__(self, path: Path, rejects: Rejects | None = None) -> None:
        self.path, self.rejects = path, rejects
        self.skipped: Counter[str] = Counter()
        self.rejected: list[InputError] = []

    def __iter__(self) -> Iterator[CaptionedImage]:
        """Yield the images that have a caption.

        Raises:
            InputError: A record is broken, or too many were set aside.
        """
        return self._limited(self._read())

    def decoded(self) -> Iterator[tuple[CaptionedImage, Image.Image]]:
        """Yield the images that have a caption, with their pixels in RGB.

        Raises:
            InputError: A record is broken or an image cannot be decoded, or too many were set aside.
        """
        return self._limited(self._decode())

    def iter_captions(self) -> Iterator[str]:
        """Yield every caption that is not empty; no image is decoded."""
        for record in self:
            yield from record.captions

    @property
    def listed(self) -> dict[str, int]:
        """How many images and captions the source lists, those that are set aside too; it may be read for that."""
        table = self.table()
        return {"images": len(table) + len(self.rejected), "captions": len(table.captions)}

    def table(self) -> CaptionTable:
        """Read the source into a table for access by number, in the order of the records; no image is in it."""
        return CaptionTable.of(self)

    @abstractmethod
    def _read(self) -> Iterator[CaptionedImage]: ...

    def _decode(self) -> Iterator[tuple[CaptionedImage, Image.Image]]:
        for record in self._read():
            name = f"{record.image.file}, {record.key}" if isinstance(record.image, ImageSpan) else record.image
            try:
                image = decode_image(record.image, name)
            except InputError as error:
                self._set_aside(InputError(error.problem, file=self.path, record=record.key, mend=error.mend))
            else:
                yield record, image

    def _limited(self, values: Iterator[_T]) -> Iterator[_T]:
        """Yield the values of one reading and check at its end how much was set aside."""
        self.skipped.clear()
        self.rejected.clear()
        count = 0
        for value in values:
            count += 1
            yield value
        self.check_limit(count)

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

    def _clean(self, captions: Iterable[object], file: Path, record: object, key: str) -> tuple[str, ...]:
        """Strip captions and drop the empty ones, counting them; count the record where none is left."""
        kept, empty = [], 0
        for caption in captions:
            if not isinstance(caption, str):
                error = InputError("a caption is not text", file=file, record=record, key=key, mend="write a string")
                self._set_aside(error)
            elif caption.strip() and (problem := caption_fault(caption)):
                mend = "mend the caption, or take it out"
                self._set_aside(InputError(problem, file=file, record=record, key=key, mend=mend))
            elif caption.strip():
                kept.append(caption.strip())
            else:
                empty += 1
        self.skipped.update({"empty caption": empty} if empty else {})
        if not kept:
            self._leave_out("image without caption", file, record, key, "caption the image, or take it out")
        elif empty and self.rejects is not None:
            self._reject(InputError("empty caption", file=file, record=record, key=key, mend="take it out"))
        return tuple(kept)

    def _is_there(self, image: Path, file: Path, record: object, key: str) -> bool:
        """Whether an image file has bytes; looked at only where bad records are set aside."""
        if self.rejects is None:
            return True
        problem = None if image.is_file() else "the image does not exist"
        if problem is None and not image.stat().st_size:
            problem = "the image has no bytes"
        if problem:
            mend = f"put {image} there, or take its record out"
            self._set_aside(InputError(problem, file=file, record=record, key=key, mend=mend))
        return problem is None
