"""Files: atomic writing, the one door for JSON and text of others, checksums."""

from __future__ import annotations

import codecs
import ctypes
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO

import psutil

from regionclip.errors import InputError, logger

# A quota and a limit on a file's size are full disks too. Libraries wrap the system's error, or write of it in words of
# their own, as PyTorch's archives and NumPy do.
_FULL = re.compile(
    "|".join(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
    + r"|file write failed|unexpected pos \d|iostream error|requested and \d+ written"
)
_log = logger(__name__)
_MARKS = {  # UTF-32's begins as UTF-16's does
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_GUESSED: set[str] = set()  # files whose encoding the log has told
_START = 1 << 20  # bytes of a text that tell its encoding
_SPACE = re.compile(r"[ \t\n\r]*")
_LETTER = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")  # of UTF-8, above ASCII
# One that is paired, one that is alone, any other.
_ESCAPES = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|(\\.)"
)
# Beside what is written, and no reader takes it: who writes there, by host, process and start of the process.
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8})-([0-9]+)-([0-9]+)-[0-9a-f]{8}(\.old)?\.tmp", re.DOTALL)
_CLOCK = 2.0  # seconds by which two readings of a process's start may differ
_FOREIGN = 86400.0  # seconds after which a temporary of another host, whose processes nobody here sees, is left over
_MANY = 500  # files, from which on one call for the whole disk is quicker than one a file
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV)  # NFS, SMB, other systems
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling of ``path`` to write to; put it in its place, on the disk, only if the block succeeds.

    A kill at any instant leaves the old file or the new one, and a temporary that the next writer there sweeps away.
    """
    path = Path(path)
    beside = _temporary(path)
    # The system applies the umask; to read it is to set it, for all threads.
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield beside
        _sync(beside)
        beside.replace(path)
        _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """As `atomic_path`, for a folder to fill; of two writers at once both succeed, and the last one's folder stays."""
    with temporary_dir(path) as beside:
        yield beside
        put_dir(beside, path)


def require_own(folder: str | Path, mark: str) -> None:
    """Refuse to put a folder in the place of one that holds something else: what is there would be removed.

    Args:
        folder: The place; nothing, an empty folder, or an earlier one of the same kind may be there.
        mark: A file that every folder of the kind has.

    Raises:
        InputError: Something else is there.
    """
    folder = Path(folder)
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not empty and not (folder / mark).is_file():
        mend = "name a new folder with -o"
        raise InputError(f"it is there and holds something else, without {mark}", file=folder, mend=mend)


@contextmanager
def temporary_dir(path: str | Path, suffix: str = "") -> Iterator[Path]:
    """Give an empty folder beside ``path``, on the same disk; it is removed after the block, or swept after a kill."""
    beside = _temporary(Path(path), suffix)
    beside.mkdir()
    try:
        yield beside
    finally:
        _remove(beside)


def put_dir(beside: Path, path: str | Path) -> None:
    """Put a folder in the place of ``path`` in one step; what was there before is removed with ``beside``.

    Where a disk cannot exchange two names, the old folder steps aside for the time of one renaming; a kill between the
    two leaves it there, and `sweep` puts it back.
    """
    path = Path(path)
    _sync_tree(beside)
    # Another writer may put a folder there, or take one away, between the two.
    while not (_rename(beside, path) or _exchange(beside, path)):
        pass
    _sync(path.parent)


def sweep(folder: str | Path, *, below: bool = False) -> list[Path]:
    """Remove the temporaries whose writers are gone, in a folder or also ``below``; put back a folder that was aside.

    Nothing is done where there is no folder. Returns the temporaries that were there.
    """
    swept = []
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = _TEMPORARY.fullmatch(name)
            left = Path(place) / name
            if not found or not _is_left(left, *found.group(1, 2, 3)):
                continue
            for old in left.iterdir() if found[4] else ():
                # Another writer may have put a new one there meanwhile.
                with suppress(OSError):
                    if not (left.parent / old.name).exists():
                        old.rename(left.parent / old.name)
            _remove(left)
            swept.append(left)
        folders[:] = [name for name in folders if below and not _TEMPORARY.fullmatch(name)]
    return swept


def is_gone(pid: int, started: float) -> bool:
    """Say whether a process of this host, by number and start in seconds since 1970, has ended."""
    try:
        process = psutil.Process(pid)
        # Numbers of processes are given out again; a zombie does nothing any more.
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - started) > _CLOCK
    except psutil.NoSuchProcess:
        return not psutil.pid_exists(pid)


def _temporary(path: Path, suffix: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    start = os.fsdecode(os.fsencode(path.name)[:100])
    writer = f"{_host()}-{os.getpid()}-{psutil.Process().create_time():.0f}"
    return path.with_name(f".{start}.{writer}-{secrets.token_hex(4)}{suffix}.tmp")


@cache
def _host() -> str:
    """Return what names this host; a container that sees other processes is another one."""
    with suppress(OSError):
        return hashlib.sha256(f"{platform.node()} {Path('/proc/self/ns/pid').stat().st_ino}".encode()).hexdigest()[:8]
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_left(temporary: Path, host: str, pid: str, started: str) -> bool:
    if host == _host():
        return is_gone(int(pid), float(started))
    with suppress(FileNotFoundError):
        return time.time() - temporary.lstat().st_mtime > _FOREIGN
    return False


def _rename(beside: Path, path: Path) -> bool:
    """Rename a folder to a name that is free, or that of an empty folder; False where it is taken."""
    try:
        beside.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def _exchange(beside: Path, path: Path) -> bool:
    """Exchange what two names stand for, or put one aside for the other; False where ``path`` is free by now."""
    rename = getattr(_libc, "renameat2", None)
    if rename and not rename(_HERE, os.fsencode(beside), _HERE, os.fsencode(path), _EXCHANGE):
        return True
    number = ctypes.get_errno() if rename else errno.ENOSYS
    if number == errno.ENOENT:
        return False
    if number not in _NO_EXCHANGE:
        raise OSError(number, os.strerror(number), str(path))
    with temporary_dir(path, ".old") as aside:
        try:
            path.rename(aside / path.name)
        except FileNotFoundError:
            return False
        except OSError as error:
            # A folder of a container's image cannot be renamed.
            if error.errno != errno.EXDEV:
                raise
            _remove(path)
        return _rename(beside, path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some disks cannot do it for folders.
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    paths = [path for path in (*folder.rglob("*"), folder) if not path.is_symlink()]
    if len(paths) > _MANY and hasattr(_libc, "syncfs"):
        handle = os.open(folder, os.O_RDONLY)
        try:
            if _libc.syncfs(handle):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
        finally:
            os.close(handle)
        return
    for path in paths:
        _sync(path)


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8, atomically."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def read_json(path: str | Path, without: Collection[str] = ()) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        InputError: The file cannot be read or is not JSON.
    """
    return parse_json(_content(Path(path)), file=path, without=without)


def read_json_list(path: str | Path, mend: str) -> Iterator[Any]:
    """Yield the items of a JSON file that is one list, each when it is read: the file may be larger than the memory.

    Raises:
        InputError: The file cannot be read, is not JSON, or holds no list.
    """
    with _reading(path):
        encoding = text_encoding(path).replace("cp1252", "utf-8")
    with Path(path).open(encoding=encoding) as file:
        try:
            yield from _items(file)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not a list in JSON ({error})", file=path, mend=mend) from None


def _items(file: TextIO) -> Iterator[Any]:
    text = file.read(_START).lstrip("\ufeff")
    place = _SPACE.match(text).end()
    if not text.startswith("[", place):
        raise ValueError("it begins otherwise")
    place, ended = place + 1, False
    first = True
    while not ended:
        place = _SPACE.match(text, place).end()
        if first and text.startswith("]", place):
            break
        try:
            item, stop = _DECODER.raw_decode(text, place)
            stop = _SPACE.match(text, stop).end()
            if text[stop] not in ",]":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, stop)
        except (json.JSONDecodeError, IndexError) as error:
            # The rest of the item, or what tells its end, may be in the next piece.
            piece = file.read(_START)
            if not piece:
                raise ValueError(error) from None
            text, place = text[place:] + piece, 0
            continue
        yield item
        first, ended, place = False, text[stop] == "]", stop + 1
    if (text[place:] + file.read(_START)).strip(" \t\n\r]"):
        raise ValueError("there is more after the list")


def parse_json(
    text: str | bytes, *, file: str | Path, record: object | None = None, without: Collection[str] = ()
) -> Any:
    """Parse JSON that somebody else may have written, in UTF-8 or UTF-16, with a mark or without.

    Half a surrogate pair becomes U+FFFD, so that every text can be written, compared and printed. Numbers may be of any
    size and NaN or Infinity, as Python's tools write them: whoever reads a record sets aside that one, not the file.

    Keys of objects that ``without`` names are left out.

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
        decoder = json.JSONDecoder(object_pairs_hook=partial(_object, without=without)) if without else _DECODER
        return decoder.decode(text.removeprefix("\ufeff"))
    except RecursionError:
        why = "too many brackets within each other"
    except MemoryError:
        why = "it does not fit into the memory"
    except ValueError as error:
        why = str(error)
    mend = "write the file again, as UTF-8" if record is None else "mend or delete it"
    raise InputError(f"not JSON ({why})", file=file, record=record, mend=mend)


def _object(pairs: list[tuple[str, Any]], without: Collection[str] = ()) -> dict[str, Any]:
    pairs = [pair for pair in pairs if pair[0] not in without] if without else pairs
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
    if encoding == "cp1252" and str(path) not in _GUESSED:
        _GUESSED.add(str(path))
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
    with _reading(path):
        return path.read_bytes()


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        mend = "run the stage that writes it, or mend the path"
        raise InputError("the file does not exist", file=path, mend=mend) from None
    except (OSError, ValueError) as error:
        problem = f"the file cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(problem, file=path, mend="mend the path, or the rights of the file") from None


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_tree(path: str | Path) -> str:
    """Return one SHA-256 over the names and bytes of all files below ``path`` (or of the file itself), in hex.

    Left out is what comes and goes without a change of the content: Python's caches, and temporaries of writers.
    """
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        parts = file.relative_to(path).parts
        if file.is_file() and "__pycache__" not in parts and not any(map(_TEMPORARY.fullmatch, parts)):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


@contextmanager
def full_disk_named(folder: str | Path) -> Iterator[None]:
    """Turn the error of a full disk, in whichever library's words, into one that names the folder and what to do.

    ``folder`` is named where the error does not say which file it was.

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
        place = Path(os.fsdecode(named)).parent if isinstance(named, (str, bytes)) else folder
        problem = f"the disk takes no more ({str(full).splitlines()[0]}); what was written before is whole"
        raise InputError(problem, file=place, mend="make room there and run it again") from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
