"""CaptionedImage, one record of a source of captioned images, and what the values that it is made from must be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionclip.data.pictures import ImageSpan
from regionclip.errors import InputError

LONGEST_KEY = 255
"""Bytes of an image's id, or of its key in a shard or TSV."""

LONGEST = 1000
"""Characters; CLIP reads about 300, and COCO's longest has 250."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and ends of lines

_KINDS = {str: "text", list: "a list"}


@dataclass(frozen=True)
class CaptionedImage:
    """An image that is not decoded yet, and its captions.

    Attributes:
        key: The COCO image id, the image's name in JSON Lines, the key in a shard or TSV.
        image: The image's file, or its place in a shard or TSV; for ``decode_image``.
        captions: At least one, none of them empty.
    """

    key: str
    image: Path | ImageSpan
    captions: tuple[str, ...]


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


def image_key(value: object) -> str:
    """Return an id as the key of an image, so that 1 and "1" are one.

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
    raise InputError("the id is neither an integer nor a short text", mend=mend)


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
