"""The one opener of pictures: their place, pixels and size, whether each decodes to its end, and what tells twins."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from regionclip.errors import InputError
from regionclip.files import atomic_path, sha256_file

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow's other readers break on damaged files in ways of their own, and that of PostScript starts a program."""

LEAST_SIDE = 16
"""Pixels. CLIP's tower halves a picture four times on the way to its map, and 1 / 16 of less is nothing."""

MOST_PIXELS, MOST_BYTES = 50_000_000, 1 << 30
"""Of a picture and of its file. A file of some kilobytes can be a "bomb" of gigabytes of pixels."""

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A picture in the forms that callers of the detector have it in."""

SEEN = "seen.arrow"
"""In data/NAME: what stage `data` saw of the pictures that it kept, so that the gate behind need not decode them."""

_BATCH = 64
_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes that Linux and macOS take
_LEADS_OUT = re.compile(r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)|\\|\0")
_FLAT = 4.0  # gray levels beside a smooth ramp; the cells of flatter images are alike by chance
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THE_SIDE = frozenset(_TURNS[tag] for tag in (5, 6, 7, 8))
_PLANE = np.array([(1, column, row) for row in range(8) for column in range(9)], np.float64)
_RAMPS = _PLANE @ np.linalg.pinv(_PLANE)  # projects 72 cells on the ramps among them

# Where Pillow only warns, the picture is refused anyway.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@dataclass(frozen=True)
class ImageSpan:
    """An image in a tar shard or, as base64, in a row of a TSV, which is read when it is wanted.

    Attributes:
        file: The larger file.
        offset: Its first byte.
        size: Bytes.
        base64: Whether the bytes are base64.
    """

    file: Path
    offset: int
    size: int
    base64: bool = False

    def read(self) -> bytes:
        """Return the bytes of the encoded image.

        Raises:
            OSError: The file cannot be read.
            ValueError: The bytes are no base64.
        """
        with self.file.open("rb", buffering=0) as handle:
            handle.seek(self.offset)
            data = handle.read(self.size)
        return base64.b64decode(data) if self.base64 else data


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


_TYPES = {"width": pa.int32(), "height": pa.int32()}
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in ("path", *Looked._fields)])


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


def decode_image(image: bytes | str | Path | ImageSpan, name: str | Path | None = None) -> Image.Image:
    """Decode a picture to 8-bit RGB, turned as its EXIF tag says: the one way from a file to pixels.

    Of an animated picture it is the first one. Gray, CMYK and palettes become RGB, transparency is dropped, as in the
    official code.

    Args:
        image: The picture's file, its place in a larger file, or its bytes.
        name: What to call it in an error; default: the file.

    Raises:
        InputError: It is absent, is of none of `FORMATS`, is cut short or damaged, has more than `MOST_PIXELS`, or has
            pixels that 8-bit RGB cannot hold.
    """
    if name is None and not isinstance(image, bytes):
        name = image.file if isinstance(image, ImageSpan) else image
    try:
        with _opened(image) as opened:
            return _rgb(opened)
    except Exception as error:
        # The decoders raise errors of all kinds on damaged bytes.
        raise _refusal(error, name or "image bytes") from None


def to_bgr(picture: Picture) -> NDArray[np.uint8]:
    """Return a picture as uint8 (H, W, 3), BGR, what MMDetection's pipelines work on; see `decode_image`.

    Args:
        picture: Path of a file, its bytes, a Pillow image, or uint8 (H, W, 3) in RGB.

    Raises:
        InputError: It cannot be decoded, the array has another form, or it is none of these.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            problem = f"the array is {picture.dtype} {picture.shape}, wanted uint8 (H, W, 3)"
            raise InputError(problem, mend="give RGB pixels from 0 to 255")
    elif isinstance(picture, Image.Image):
        try:
            picture = _rgb(picture)
        except Exception as error:
            raise _refusal(error, None) from None
    else:
        picture = decode_image(picture)
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


def header_size(image: Path | ImageSpan) -> tuple[int, int]:
    """Return width and height as `decode_image` gives them, errors too; most pictures are not decoded for it."""
    try:
        with _opened(image) as opened:
            return _turned_size(opened)
    except Exception as error:
        raise _refusal(error, image.file if isinstance(image, ImageSpan) else image) from None


def thick(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Return the size to resize a picture to, with no side below `LEAST_SIDE`, or below ``short`` where that is less.

    A thin picture is stretched for it, and its boxes with it.

    Args:
        size: Width and height that keep the picture's shape, a side of which may be rounded to nothing.
        short: The short side that is wanted.
    """
    width, height = (max(side, min(LEAST_SIDE, short)) for side in size)
    return width, height


def look(image: bytes | ImageSpan, before: Looked | None = None) -> Looked:
    """Decode a picture to its end; what is sound here `decode_image` reads, with the same size.

    What was seen ``before`` of the same bytes is returned without decoding them again.
    """
    digest = ""
    try:
        content = image.read() if isinstance(image, ImageSpan) else image
        digest = hashlib.sha256(content).hexdigest()
        if before is not None and before.sha256 == digest:
            return before
        with _opened(content) as opened:
            opened.load()
            return Looked(None, *_turned_size(opened), digest, _likeness(opened))
    except Exception as error:
        return Looked(_words(error), None, None, digest)


def look_at_files(paths: Sequence[Path], workers: int = 2, seen: dict[Path, Looked] | None = None) -> list[Looked]:
    """Look at files with so many threads; one that is absent is seen as nothing.

    A file of the bytes that were ``seen`` before is not decoded again, and what is seen now is added.
    """
    seen = {} if seen is None else seen
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        looks = pool.map(lambda batch: [_look_at_file(path, seen.get(path)) for path in batch], batches)
        found = [looked for batch in looks for looked in batch]
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


@contextmanager
def _opened(image: bytes | str | Path | ImageSpan) -> Iterator[Image.Image]:
    """Open a picture of the list of formats, by its content; nothing is decoded yet. Errors are those of Pillow."""
    content = image.read() if isinstance(image, ImageSpan) else image
    if not isinstance(content, bytes | str | Path):
        raise TypeError(f"a {type(content).__name__}, wanted a path or bytes")
    if not isinstance(content, bytes) and not Path(content).is_file() and Path(content).exists():
        raise ValueError("no file")  # to open a pipe is to wait for ever
    # A path would be mapped to memory, where Pillow refuses some damaged files that it reads as a stream.
    with BytesIO(content) if isinstance(content, bytes) else Path(content).open("rb") as stream:
        if not stream.read(1):
            raise ValueError("the file has no bytes")
        with Image.open(stream, formats=FORMATS) as opened:
            _check(opened)
            yield opened


def _check(image: Image.Image) -> None:
    """Refuse from the header, before memory is taken, what 8-bit RGB cannot hold or should not."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MOST_PIXELS:,}")
    if image.mode[0] in "IF":
        raise ValueError(f"{image.mode} pixels, whose values above 255 would be cut off")
    if image.mode not in _MODES:
        raise ValueError(f"{image.mode} pixels, which do not become RGB")


def _rgb(image: Image.Image) -> Image.Image:
    _check(image)
    image.load()
    turn = _turn(image)
    return (image if turn is None else image.transpose(turn)).convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how the EXIF tag asks to turn a picture. Only that tag is read: others may be ill-typed."""
    if image.format == "TIFF":
        return None  # Pillow turns it, size and pixels
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:
        return None  # a damaged EXIF block, without which the picture is as good


def _turned_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _turn(image) in _ON_THE_SIDE else (width, height)


def _words(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    # Some messages name the in-memory stream.
    return getattr(error, "strerror", None) or str(error).split(" <_io")[0] or type(error).__name__


def _refusal(error: Exception, name: str | Path | None) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError("the image does not exist", file=name, mend="put it there, or take out what names it")
    problem = f"the image cannot be decoded ({_words(error)})"
    return InputError(problem, file=name, mend="fetch or save it again as JPEG or PNG, or take out what names it")


def _likeness(image: Image.Image) -> str | None:
    gray = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(gray, np.float64).ravel()
    return gray.tobytes().hex() if (cells - _RAMPS @ cells).std() >= _FLAT else None


def _look_at_file(path: Path, before: Looked | None) -> Looked:
    if not os.path.isfile(path):  # noqa: PTH113  (`Path.is_file` raises where a name is too long)
        return Looked(None, None, None, None)
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            return Looked(f"a file of {size:,} bytes, more than {MOST_BYTES:,}", None, None, sha256_file(path))
        return look(path.read_bytes(), before)
    except OSError as error:
        return Looked(_words(error), None, None, "")
