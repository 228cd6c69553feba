"""Looking at image files: whether each decodes to its end, its size, and the checksum that tells twins."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from regionclip.errors import InputError
from regionclip.files import atomic_path

SEEN = "seen.arrow"
"""In data/NAME: what stage `data` saw of the pictures that it kept, so that the gate behind need not decode them."""

_BATCH = 64
_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes that Linux and macOS take
_LEADS_OUT = re.compile(r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)|\\|\0")
_FLAT = 4.0  # gray levels beside a smooth ramp; the cells of flatter images are alike by chance
_ORIENTATION, _TURNED = 0x0112, frozenset({5, 6, 7, 8})
_PLANE = np.array([(1, column, row) for row in range(8) for column in range(9)], np.float64)
_RAMPS = _PLANE @ np.linalg.pinv(_PLANE)  # projects 72 cells on the ramps among them
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("likeness", pa.string()),
    ]
)


class Looked(NamedTuple):
    """What a look at an image's bytes shows.

    Attributes:
        error: Why it does not decode, or None.
        width: Pixels, after the turn that its EXIF tag asks for; None if it does not decode.
        height: The same.
        sha256: Of the bytes; None if there is no file.
        likeness: The image in 9 x 8 gray cells, row by row, in hex; scaled or recompressed copies have nearly the same.
            None if the image does not decode, or is flat or a smooth ramp.
    """

    error: str | None
    width: int | None
    height: int | None
    sha256: str | None
    likeness: str | None = None


def inside(folder: Path, name: str) -> Path:
    """Return the place of a picture, or of another file, that a file of the user's names.

    The name must stay in the folder as it is written: no ``..``, no root or drive, no backslash, which is a part of
    the name here and a separator elsewhere. Links that lie in the folder are the user's, and are followed.

    Raises:
        InputError: The name leads out, or no file can have it; without file and record, which the caller knows.
    """
    if not isinstance(name, str) or not name.strip("/ "):
        raise InputError("there is no file name", mend="name a file of the folder")
    if _LEADS_OUT.search(name):
        mend = f"name it from {folder} on, with / between folders"
        raise InputError(f"the file name leads out of its folder ({name[:60]!r})", mend=mend)
    place = folder / name
    try:
        longest = max(len(part.encode()) for part in name.split("/"))
    except UnicodeEncodeError:
        raise InputError(f"the file name is no text ({name[:60]!r})", mend="name the file anew") from None
    if longest > _LONGEST_NAME or len(os.fsencode(place)) >= _LONGEST_PATH:
        problem = f"no file can have the name ({longest} bytes, {name[:60]!r}...)"
        raise InputError(problem, mend=f"give the file a name of at most {_LONGEST_NAME} bytes")
    return place


def depth_problem(image: Image.Image) -> str | None:
    """Return what is wrong with the pixels: 16-bit gray, 32-bit integers and floats lose their values above 255."""
    return f"{image.mode} pixels, whose values above 255 would be cut off" if image.mode[0] in "IF" else None


def look(content: bytes, before: Looked | None = None) -> Looked:
    """Decode an image to its end; of an animated one, the first picture.

    What was seen ``before`` of the same bytes is returned without decoding them again.

    Gray, CMYK, palettes, transparency and 16-bit colours are what loaders turn to 8-bit RGB; of 16-bit gray they keep
    the values up to 255 only and paint the rest white, so it is refused.
    An image of more than 178,956,970 pixels (twice Pillow's ``MAX_IMAGE_PIXELS``), a "bomb" where the file is small, is
    told from its header, before memory is taken.
    """
    digest = hashlib.sha256(content).hexdigest()
    if before is not None and before.sha256 == digest:
        return before
    if not content:
        return Looked("the file has no bytes", None, None, digest)
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
            if problem := depth_problem(image):
                return Looked(problem, None, None, digest)
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


def look_at_files(paths: Sequence[Path], workers: int = 2, seen: dict[Path, Looked] | None = None) -> list[Looked]:
    """Look at files with so many threads, which read and decode side by side.

    Args:
        paths: The files; one that is absent is seen as nothing.
        workers: Threads.
        seen: What was seen before. A file of the same bytes is not decoded again, and what is seen now is added.
    """
    seen = {} if seen is None else seen
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        found = [looked for batch in pool.map(lambda batch: _look_at(batch, seen), batches) for looked in batch]
    seen.update(zip(paths, found, strict=True))
    return found


def save_seen(file: Path, seen: Mapping[Path, Looked]) -> None:
    """Write what was seen of image files; the same gives the same bytes."""
    rows = [{"path": path.as_posix(), **looked._asdict()} for path, looked in seen.items()]
    table = pa.Table.from_pylist(rows, _SCHEMA)
    with atomic_path(file) as beside, pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_table(table)


def load_seen(files: Iterable[Path]) -> dict[Path, Looked]:
    """Read what `save_seen` wrote; a file that is absent has nothing."""
    seen: dict[Path, Looked] = {}
    for file in filter(Path.is_file, files):
        rows = pa.ipc.open_file(pa.memory_map(str(file))).read_all().to_pylist()
        seen |= {Path(row.pop("path")): Looked(**row) for row in rows}
    return seen


def _likeness(image: Image.Image) -> str | None:
    gray = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(gray, np.float64).ravel()
    return gray.tobytes().hex() if (cells - _RAMPS @ cells).std() >= _FLAT else None


def _look_at(paths: Sequence[Path], seen: Mapping[Path, Looked]) -> list[Looked]:
    return [
        look(path.read_bytes(), seen.get(path)) if path.is_file() else Looked(None, None, None, None) for path in paths
    ]
