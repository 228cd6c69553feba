"""Fetching public data sets from their official addresses or a mirror, verified, and telling what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from regionclip.data.sources import SOURCES, Archive
from regionclip.errors import InputError
from regionclip.workspace.fetch.download import discard, download, part_of
from regionclip.workspace.fetch.record import look, read_record, write_record
from regionclip.workspace.fetch.unpacking import unpack

_CHUNK = 1 << 22


def fetch(name: str, root: Path, mirror: str | None = None) -> list[str]:
    """Fetch, verify and unpack what is missing of a data set.

    Args:
        name: A key of `SOURCES`.
        root: Folder of the data sets, ``datasets`` in the profiles.
        mirror: A folder, or an address, that holds the archives under their names.

    Returns:
        One line for each archive: what was done, or what the user has to do.

    Raises:
        InputError: A file cannot be had, is not the one that it should be, or differs from what was fetched before.
    """
    return [f"{archive.name}: {_fetch(archive, root, mirror)}" for archive in SOURCES[name]]


def status(names: Collection[str], root: Path) -> tuple[Table, bool]:
    """Return a table of what is there of each data set, and whether all of it is."""
    table = Table(box=None)
    for title in ("data set", "archive", "state", "detail", "checksum known from"):
        table.add_column(title, overflow="fold")
    everything = True
    for name in names:
        for archive in SOURCES[name]:
            found = look(root, archive)
            everything = everything and found.state == "there"
            table.add_row(name, archive.name, found.state, found.detail, archive.checksum_by)
    return table, everything


def _fetch(archive: Archive, root: Path, mirror: str | None) -> str:
    found = look(root, archive)
    if found.state == "there":
        return f"there already ({found.detail})"
    local = None if mirror is None or "://" in mirror else Path(mirror) / archive.name
    if archive.url is None and (local is None or not local.is_file()):
        return (
            f"not public. Ask for it at {archive.ask_at}, then give the folder that holds it as --mirror, "
            f"or unpack it to {root / next(iter(archive.gives))}"
        )
    if local is None:
        return _from_address(archive, root, archive.url if mirror is None else f"{mirror.rstrip('/')}/{archive.name}")
    if not local.is_file():
        raise InputError("the mirror lacks the file", file=local, mend="put it there, or leave out --mirror")
    _unpack(archive, local, root, _verified(archive, local, root))
    return f"verified and unpacked from {local}"


def _from_address(archive: Archive, root: Path, url: str) -> str:
    # The part keeps its name until it is unpacked: a stop at any point goes on from there.
    target = root / archive.name
    _download(archive, target, url)
    try:
        sha256 = _verified(archive, part_of(target), root)
    except InputError:
        discard(target)
        raise
    try:
        _unpack(archive, part_of(target), root, sha256)
    except InputError:
        # A disk that is full is no reason to fetch 19 gigabytes again; bytes that nothing vouches for are.
        if archive.checksum is None:
            discard(target)
        raise
    discard(target)
    return f"fetched from {url}, verified and unpacked"


def _download(archive: Archive, target: Path, url: str) -> None:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(archive.name, total=archive.size)
        download(url, target, archive.size, lambda done, total: progress.update(task, completed=done, total=total))


def _verified(archive: Archive, file: Path, root: Path) -> str:
    """Return the SHA-256 of an archive that has the size and checksums that are known of it."""
    size, before = file.stat().st_size, read_record(root).get(archive.name)
    if archive.size not in (None, size):
        raise InputError(f"{size} bytes, not {archive.size}", file=file, mend="fetch it again")
    kind, _, wanted = (archive.checksum or "").partition(":")
    # What proves a file is the SHA-256; MD5 only tells whether the bytes came as they were sent.
    digests = {"sha256": hashlib.sha256(), **({"md5": hashlib.md5(usedforsecurity=False)} if kind == "md5" else {})}
    with file.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            for digest in digests.values():
                digest.update(chunk)
    sums = {name: digest.hexdigest() for name, digest in digests.items()}
    if kind and sums[kind] != wanted:
        raise InputError(
            f"its {kind} is {sums[kind]}, not {wanted} (known from {archive.checksum_by})",
            file=file,
            mend="fetch it again, or from another --mirror",
        )
    if before is not None and before["sha256"] != sums["sha256"]:
        raise InputError(
            f"its sha256 is {sums['sha256']}; when first fetched it was {before['sha256']}",
            file=file,
            mend="find out which one is right before you go on",
        )
    return sums["sha256"]


def _unpack(archive: Archive, file: Path, root: Path, sha256: str) -> None:
    files = {f"{archive.into}/{path}": size for path, size in unpack(file, root / archive.into).items()}
    lacking = [path for path in archive.gives if not (root / path).exists()]
    if lacking:
        raise InputError(f"it has no {', '.join(lacking)}", file=file, mend="fetch it again: this is another archive")
    write_record(root, archive, sha256, file.stat().st_size, files)
