"""Unpacking a zip or tar archive: nothing leaves the folder, and nothing of it is seen before all is there."""

from __future__ import annotations

import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from regionclip.errors import InputError

_MEND = "fetch it again from its official address"


def unpack(archive: Path, folder: Path) -> dict[str, int]:
    """Unpack an archive into a folder that may hold other things; files of the same name are replaced.

    It is unpacked beside and then moved, so a stop in between leaves no file cut in two.

    Args:
        archive: A .zip, .tar or .tar.gz.
        folder: Where its members go.

    Returns:
        For each file its path relative to ``folder``, and its bytes.

    Raises:
        InputError: It is no archive, is damaged, does not fit on the disk, or has a member that would leave the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", dir=folder))
    try:
        _extract(archive, beside)
        sizes = {
            file.relative_to(beside).as_posix(): file.stat().st_size for file in beside.rglob("*") if file.is_file()
        }
        _move(beside, folder)
        return sizes
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _extract(archive: Path, beside: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, beside)
        else:
            with tarfile.open(archive) as tar:
                # The filter refuses absolute names, "..", links that lead out, and devices.
                tar.extractall(beside, filter="data")
    except tarfile.FilterError as error:
        raise InputError(f"a member leaves the folder ({error})", file=archive, mend=_MEND) from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"no whole archive ({error})", file=archive, mend=_MEND) from None


def _extract_zip(archive: Path, beside: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        for member in members:
            name = PurePosixPath(member.filename.replace("\\", "/"))
            # extractall would strip such names silently, and write a link as a file.
            if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
                raise InputError(f"the member '{member.filename}' leaves the folder", file=archive, mend=_MEND)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(f"the member '{member.filename}' is a link", file=archive, mend=_MEND)
        needed, free = sum(member.file_size for member in members), shutil.disk_usage(beside).free
        if needed > free:
            raise InputError(
                f"unpacked it has {needed} bytes, and the disk has {free} left", file=archive, mend="make room"
            )
        content.extractall(beside)


def _move(source: Path, target: Path) -> None:
    """Move what is in ``source`` into ``target``, whole folders where there are none yet."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _move(entry, place)
        else:
            entry.replace(place)
