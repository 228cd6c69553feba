"""Files: atomic writing, the one door for JSON and text of others, checksums."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regionclip.errors import InputError

# A quota and a limit on a file's size are full disks too. Libraries wrap the system's error, or write of it in words of
# their own, as PyTorch's archives and NumPy do.
_FULL = re.compile(
    "|".join(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
    + r"|file write failed|unexpected pos \d|iostream error|requested and \d+ written"
)
_log = logging.getLogger(__name__)
_MARKS = {  # UTF-32's begins as UTF-16's does
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_START = 1 << 20  # bytes of a text that tell its encoding
_LETTER = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")  # of UTF-8, above ASCII
# One that is paired, one that is alone, any other.
_ESCAPES = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|(\\.)"
)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling of ``path`` to write to; rename it into place only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling folder to fill; put it in the place of ``path`` only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield beside
        beside.chmod(0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        beside.replace(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, atomically, keys in the order given."""
    with atomic_path(path) as beside:
        beside.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        InputError: The file cannot be read or is not JSON.
    """
    return parse_json(_content(Path(path)), file=path)


def parse_json(text: str | bytes, *, file: str | Path, record: object | None = None) -> Any:
    """Parse JSON that somebody else may have written, in UTF-8 or UTF-16, with a mark or without.

    Half a surrogate pair becomes U+FFFD, so that every text can be written, compared and printed. Numbers may be of any
    size and NaN or Infinity, as Python's tools write them: whoever reads a record sets aside that one, not the file.

    Args:
        text: The JSON; bytes are decoded.
        file: Where it comes from, for the error.
        record: Which record of it, for the error.

    Raises:
        InputError: It is not JSON, has a number of more than 4300 digits or too many brackets within each other, or
            gives one key of an object two values.
    """
    try:
        if isinstance(text, bytes):
            # JSON is never in cp1252, and names that were read in a wrong encoding would look right.
            text = text.decode(_encoding(text[:_START]).replace("cp1252", "utf-8"))
        if "\\ud" in text or "\\uD" in text:
            text = _ESCAPES.sub(lambda found: found[0] if found[1] or found[2] else "\\ufffd", text)
        return _DECODER.decode(text.removeprefix("\ufeff"))
    except RecursionError:
        why = "too many brackets within each other"
    except MemoryError:
        why = "it does not fit into the memory"
    except ValueError as error:
        why = str(error)
    mend = "write the file again, as UTF-8" if record is None else "mend or delete it"
    raise InputError(f"not JSON ({why})", file=file, record=record, mend=mend)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, one in pairs:
            if value[key] != one:
                raise ValueError(f"an object has the key {key[:80]!r} twice, with two values")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def read_text(path: str | Path) -> str:
    """Read a text file in any encoding that Windows writes; see `text_encoding`.

    Raises:
        InputError: The file cannot be read or is no text.
    """
    content = _content(Path(path))
    try:
        text = content.decode(text_encoding(path))
    except UnicodeDecodeError as error:
        raise InputError(f"not text ({error})", file=path, mend="save the file as UTF-8") from None
    if "\0" in text:
        raise InputError("not text (it has zero bytes)", file=path, mend="save the file as UTF-8")
    return text


def text_encoding(path: str | Path) -> str:
    """Return the encoding of a text file by its first MiB.

    That is what its mark says; UTF-16 without a mark where every other byte is mostly zero; UTF-8 where it is, or has
    letters of it beside broken ones; else ``cp1252``, which Windows writes in Europe and America: that is a guess, so
    the log names the file.
    """
    with Path(path).open("rb") as file:
        encoding = _encoding(file.read(_START))
    if encoding == "cp1252":
        _log.warning("%s: not UTF-8, so read as Windows' cp1252; save it as UTF-8 to be sure of its letters", path)
    return encoding


def _encoding(start: bytes) -> str:
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name
    high, low = start[::2].count(0), start[1::2].count(0)
    if max(high, low) > len(start) // 8 and min(high, low) <= max(high, low) // 8:
        return "utf-16-be" if high > low else "utf-16-le"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "utf-8" if _LETTER.search(start) else "cp1252"
    return "utf-8"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            "the file does not exist", file=path, mend="run the stage that writes it, or mend the path"
        ) from None
    except (OSError, ValueError) as error:
        problem = f"the file cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(problem, file=path, mend="mend the path, or the rights of the file") from None


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_tree(path: str | Path) -> str:
    """Return one SHA-256 over the names and bytes of all files below ``path`` (or of the file itself), in hex.

    Python's ``__pycache__`` folders are left out: they change without a change of the source.
    """
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


@contextmanager
def full_disk_named(folder: str | Path) -> Iterator[None]:
    """Turn the error of a full disk, in whichever library's words, into one that names the folder and what to do.

    Args:
        folder: Named where the error does not say which file it was.

    Raises:
        InputError: The disk is full; what was written before is whole.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        full = next((one for one in _chain(error) if _FULL.search(str(one))), None)
        if full is None:
            raise
        named = getattr(full, "filename", None)
        raise InputError(
            f"the disk takes no more ({str(full).splitlines()[0]}); what was written before is whole",
            file=Path(os.fsdecode(named)).parent if isinstance(named, (str, bytes)) else folder,
            mend="make room there and run it again",
        ) from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
