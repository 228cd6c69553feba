"""Files: atomic writing, JSON with readable errors, checksums."""

from __future__ import annotations

import errno
import hashlib
import json
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
    """Read a JSON file.

    Raises:
        InputError: The file is absent or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "the file does not exist", file=path, mend="run the stage that writes it, or mend the path"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not JSON ({error})", file=path, mend="write the file again") from None


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
