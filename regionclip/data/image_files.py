"""Looking at image files: whether each decodes to its end, its size, and the checksum that tells twins."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

_BATCH = 64
_DEEP = frozenset("IF")  # Pillow's modes of 16-bit gray, 32-bit integers and floats
_FLAT = 4.0  # gray levels; the cells of flatter images are alike by chance
_ORIENTATION, _TURNED = 0x0112, frozenset({5, 6, 7, 8})


class Looked(NamedTuple):
    """What a look at an image's bytes shows.

    Attributes:
        error: Why it does not decode, or None.
        width: Pixels, after the turn that its EXIF tag asks for; None if it does not decode.
        height: The same.
        sha256: Of the bytes; None if there is no file.
        likeness: The image in 9 x 8 gray cells, row by row, in hex; scaled or recompressed copies have nearly the same.
            None if the image does not decode or is flat.
    """

    error: str | None
    width: int | None
    height: int | None
    sha256: str | None
    likeness: str | None = None


def look(content: bytes) -> Looked:
    """Decode an image to its end; of an animated one, the first picture.

    Gray, CMYK, palettes, transparency and 16-bit colours are what loaders turn to 8-bit RGB; of 16-bit gray they keep
    the values up to 255 only and paint the rest white, so it is refused.
    An image of more than 178,956,970 pixels (twice Pillow's ``MAX_IMAGE_PIXELS``), a "bomb" where the file is small, is
    told from its header, before memory is taken.
    """
    digest = hashlib.sha256(content).hexdigest()
    if not content:
        return Looked("the file has no bytes", None, None, digest)
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
            if image.mode[0] in _DEEP:
                return Looked(f"{image.mode} pixels, whose values above 255 loaders cut off", None, None, digest)
            width, height = turned_size(image)
            likeness = _likeness(image)
    except Exception as error:
        # Pillow's decoders raise errors of many kinds on damaged bytes; some messages name the in-memory stream.
        return Looked(str(error).split(" <_io")[0] or "unreadable", None, None, digest)
    return Looked(None, width, height, digest, likeness)


def turned_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height after the turn that the EXIF tag asks for; pixels need not be loaded."""
    width, height = image.size
    return (height, width) if image.getexif().get(_ORIENTATION) in _TURNED else (width, height)


def look_at_files(paths: Sequence[Path], workers: int = 2) -> list[Looked]:
    """Look at files with so many threads, which read and decode side by side."""
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        return [looked for batch in pool.map(_look_at, batches) for looked in batch]


def _likeness(image: Image.Image) -> str | None:
    gray = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    return gray.tobytes().hex() if np.asarray(gray).std() >= _FLAT else None


def _look_at(paths: Sequence[Path]) -> list[Looked]:
    return [look(path.read_bytes()) if path.is_file() else Looked(None, None, None, None) for path in paths]
