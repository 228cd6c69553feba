"""Fetching public data sets, verified, and telling what is there by the record ``.regionclip-data.json``."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from regionclip.data.sources import SOURCES, Archive
from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file, write_json
from regionclip.workspace.fetch.download import download
from regionclip.workspace.fetch.unpacking import unpack

RECORD = ".regionclip-data.json"
_PICTURES = {".jpg", ".jpeg", ".png"}


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
            state, detail = look(root, archive)
            everything = everything and state == "there"
            table.add_row(name, archive.name, state, detail, archive.checksum_by)
    return table, everything


def _fetch(archive: Archive, root: Path, mirror: str | None) -> str:
    state, detail = look(root, archive)
    if state == "there":
        return f"there already ({detail})"
    local = None if mirror is None or "://" in mirror else Path(mirror) / archive.name
    if archive.url is None and (local is None or not local.is_file()):
        place = root / next(iter(archive.gives))
        hold = "give the folder that holds it as --mirror"
        return f"not public. Ask for it at {archive.ask_at}, then {hold}, or unpack it to {place}"
    if local is None:
        return _from_address(archive, root, archive.url if mirror is None else f"{mirror.rstrip('/')}/{archive.name}")
    if not local.is_file():
        raise InputError("the mirror lacks the file", file=local, mend="put it there, or leave out --mirror")
    _unpack(archive, local, root, _verified(archive, local, root))
    return f"verified and unpacked from {local}"


def _from_address(archive: Archive, root: Path, url: str) -> str:
    # The part keeps its name until it is unpacked: a stop at any point goes on from there.
    part = root / f"{archive.name}.part"
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(archive.name, total=archive.size)
        download(url, part, archive.size, lambda done, total: progress.update(task, completed=done, total=total))
    try:
        sha256 = _verified(archive, part, root)
    except InputError:
        part.unlink()
        raise
    try:
        _unpack(archive, part, root, sha256)
    except InputError:
        # A disk that is full is no reason to fetch 19 gigabytes again; bytes that nothing vouches for are.
        if archive.checksum is None:
            part.unlink()
        raise
    part.unlink()
    return f"fetched from {url}, verified and unpacked"


def _verified(archive: Archive, file: Path, root: Path) -> str:
    """Return the SHA-256 of an archive that has the size and checksums that are known of it."""
    size, before = file.stat().st_size, _read_record(root).get(archive.name)
    if archive.size not in (None, size):
        raise InputError(f"{size} bytes, not {archive.size}", file=file, mend="fetch it again")
    kind, _, wanted = (archive.checksum or "").partition(":")
    sums = {"sha256": sha256_file(file)}
    if kind == "md5":
        # What proves a file is the SHA-256; MD5 only tells whether the bytes came as they were sent.
        with file.open("rb") as handle:
            sums["md5"] = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if kind and sums[kind] != wanted:
        problem = f"its {kind} is {sums[kind]}, not {wanted} (known from {archive.checksum_by})"
        raise InputError(problem, file=file, mend="fetch it again, or from another --mirror")
    if before is not None and before["sha256"] != sums["sha256"]:
        problem = f"its sha256 is {sums['sha256']}; when first fetched it was {before['sha256']}"
        raise InputError(problem, file=file, mend="find out which one is right before you go on")
    return sums["sha256"]


def _unpack(archive: Archive, file: Path, root: Path, sha256: str) -> None:
    files = {f"{archive.into}/{path}": size for path, size in unpack(file, root / archive.into).items()}
    lacking = [path for path in archive.gives if not (root / path).exists()]
    if lacking:
        raise InputError(f"it has no {', '.join(lacking)}", file=file, mend="fetch it again: this is another archive")
    # Annotation files are summed, pictures are known by name and size.
    sums = {path: sha256_file(root / path) for path in files if Path(path).suffix not in _PICTURES}
    entry = {"url": archive.url, "bytes": file.stat().st_size, "sha256": sha256, "files": files, "sums": sums}
    # One entry a line would be a hundred thousand lines.
    write_json(root / RECORD, {"archives": {**_read_record(root), archive.name: entry}}, indent=None)


def _read_record(root: Path) -> dict[str, dict]:
    """Return what was fetched: archive name -> url, bytes, sha256, files (path -> bytes), sums (path -> SHA-256)."""
    file = root / RECORD
    if not file.exists():
        return {}
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("archives"), dict):
        raise InputError("no record of fetched data", file=file, key="archives", mend="move it away and fetch again")
    return content["archives"]


def look(root: Path, archive: Archive) -> tuple[str, str]:
    """Compare what lies below ``root`` with the record, or with the table where there is no record.

    Returns:
        "there", "missing" or "differs"; and in words how it was verified, what is missing or differs.
    """
    entry = _read_record(root).get(archive.name)
    if entry is None:
        return _by_table(root, archive)
    files, sums = entry["files"], entry["sums"]
    if missing := [path for path in files if not (root / path).is_file()]:
        return "missing", _some(missing, len(files), "missing")
    differs = [path for path, size in files.items() if (root / path).stat().st_size != size]
    differs = differs or [path for path, digest in sums.items() if sha256_file(root / path) != digest]
    if differs:
        return "differs", _some(differs, len(files), "not as fetched")
    return "there", f"{len(files)} files as fetched"


def _by_table(root: Path, archive: Archive) -> tuple[str, str]:
    """What a user put there by hand is known by its count only."""
    missing, differs = [], []
    for path, wanted in archive.gives.items():
        place = root / path
        count = sum(1 for _ in place.glob("*.jpg")) if place.is_dir() else int(place.is_file())
        if count == 0:
            missing.append(path)
        elif count != wanted:
            differs.append(f"{path} has {count} files, not {wanted}")
    if missing or differs:
        return "missing" if missing else "differs", ", ".join(missing or differs)
    return "there", "by count only; put here by hand, not verified"


def _some(paths: list[str], total: int, what: str) -> str:
    return f"{len(paths)} of {total} files {what}: {', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}"
