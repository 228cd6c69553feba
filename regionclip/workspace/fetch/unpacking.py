"""Unpacking a zip or tar archive: nothing leaves the folder, and nothing of it is seen before all is there."""

from __future__ import annotations

import errno
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

from regionclip.errors import InputError
from regionclip.files import temporary_dir

_MEND, _ROOM = "fetch it again from its official address", "make room"
_T = TypeVar("_T")


def unpack(archive: Path, folder: Path) -> dict[str, int]:
    """Unpack an archive into a folder that may hold other things; files of the same name are replaced.

    It is unpacked beside and then moved, so a stop in between leaves no file cut in two.

    Args:
        archive: A .zip, .tar or .tar.gz.
        folder: Where its members go.

    Returns:
        For each file its path relative to ``folder``, and its bytes.

    Raises:
        InputError: It is no archive, is damaged, does not fit on the disk, or has a member that would leave the folder
            or is a file where a folder is.
    """
    with temporary_dir(folder / archive.name) as beside:
        _extract(archive, beside)
        sizes = {
            file.relative_to(beside).as_posix(): file.stat().st_size for file in beside.rglob("*") if file.is_file()
        }
        _check_places(beside, folder)
        _move(beside, folder)
        return sizes


def _extract(archive: Path, beside: Path) -> None:
    try:
        # A zip that is a tar's last member makes the tar look like a zip from its end.
        if zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive):
            _extract_zip(archive, beside)
        else:
            _extract_tar(archive, beside)
    except InputError:
        raise
    except tarfile.FilterError as error:
        raise InputError(f"a member leaves the folder ({error})", file=archive, mend=_MEND) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"the disk takes no more ({error.strerror})", file=archive, mend=_ROOM) from None
        raise InputError(f"cannot be unpacked ({error})", file=archive, mend=_MEND) from None
    except Exception as error:
        # Of damage, encryption and unknown compression the readers tell by errors of many kinds.
        raise InputError(f"no whole archive ({error or type(error).__name__})", file=archive, mend=_MEND) from None


def _extract_zip(archive: Path, beside: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        for member in members:
            name = PurePosixPath(member.filename.replace("\\", "/"))
            # extractall would strip such names silently, and write a link as a file.
            if name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts[:1]):
                raise InputError(f"the member '{member.filename}' leaves the folder", file=archive, mend=_MEND)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(f"the member '{member.filename}' is a link", file=archive, mend=_MEND)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                problem = f"the member '{member.filename}' is compressed by method {member.compress_type}"
                raise InputError(problem, file=archive, mend="pack it again with deflate")
        # "./" is the folder itself.
        named = [member for member in members if PurePosixPath(member.filename).parts]
        content.extractall(beside, _fitting(named, lambda member: member.file_size, archive, beside))


def _extract_tar(archive: Path, beside: Path) -> None:
    def filtered(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
        if member.issym():
            raise InputError(f"the member '{member.name}' is a link", file=archive, mend=_MEND)
        # Refuses "..", hard links that lead out, and devices, and strips the root of absolute names.
        return tarfile.data_filter(member, place)

    with tarfile.open(archive) as tar:
        tar.extractall(beside, _fitting(tar, lambda member: member.size, archive, beside), filter=filtered)
        tar.fileobj.seek(tar.offset)
        # tarfile takes a damaged header for the end, where zeros should be, and gzip's checksum comes last of all.
        if tar.fileobj.read(tarfile.BLOCKSIZE).strip(tarfile.NUL):
            raise tarfile.ReadError("unexpected end of data")
        while tar.fileobj.read(1 << 20):
            pass


def _fitting(members: Iterable[_T], size: Callable[[_T], int], archive: Path, beside: Path) -> Iterator[_T]:
    """Yield members one after the other, as long as what they unpack to fits on the disk."""
    needed, free = 0, shutil.disk_usage(beside).free
    for member in members:
        needed += size(member)
        if needed > free:
            problem = f"unpacked it has at least {needed} bytes, and the disk has {free} left"
            raise InputError(problem, file=archive, mend=_ROOM)
        yield member


def _move(source: Path, target: Path) -> None:
    """Move what is in ``source`` into ``target``, whole folders where there are none yet."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _move(entry, place)
        else:
            entry.replace(place)


def _check_places(source: Path, target: Path) -> None:
    """Refuse to put a file where a folder is, or a folder where a file is, before anything is moved."""
    for entry in source.iterdir():
        place = target / entry.name
        if place.exists() and entry.is_dir() != place.is_dir():
            problem = f"is a {'folder' if place.is_dir() else 'file'}, and the archive has it otherwise"
            raise InputError(problem, file=place, mend="move it away, and unpack again")
        if entry.is_dir() and place.is_dir():
            _check_places(entry, place)
