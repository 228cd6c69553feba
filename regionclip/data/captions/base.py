"""What every source of captioned images gives: keys, undecoded images, captions, and a count of what it left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from regionclip.errors import InputError


@dataclass(frozen=True)
class CaptionedImage:
    """An image that is not decoded yet, and its captions.

    Attributes:
        key: Unique in the source: the COCO image id, the image's name in JSON Lines, the key in a shard.
        image: The image's file, or its bytes where it comes from a shard; for ``decode_image``.
        captions: At least one, none of them empty.
    """

    key: str
    image: Path | bytes
    captions: tuple[str, ...]


class CaptionedImages(ABC):
    """A source that can be read again and again, always in the same order.

    Attributes:
        path: The file or folder it reads.
        skipped: How many records the last reading left out, by reason.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[CaptionedImage]:
        """Yield the images that have a caption.

        Raises:
            InputError: A record is broken.
        """
        self.skipped.clear()
        yield from self._read()

    def iter_captions(self) -> Iterator[str]:
        """Yield every caption that is not empty; no image is decoded."""
        for record in self:
            yield from record.captions

    @abstractmethod
    def _read(self) -> Iterator[CaptionedImage]: ...

    def _clean(self, captions: Iterable[object], file: Path, record: object, key: str) -> tuple[str, ...]:
        """Strip captions and drop the empty ones, counting them; count the record where none is left."""
        kept = []
        for caption in captions:
            if not isinstance(caption, str):
                raise InputError(
                    "a caption is not text", file=file, record=record, key=key, mend="write it as a string"
                )
            if caption.strip():
                kept.append(caption.strip())
            else:
                self.skipped["empty caption"] += 1
        if not kept:
            self.skipped["image without caption"] += 1
        return tuple(kept)
