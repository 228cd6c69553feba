"""The record of what was fetched into a folder: ``.regionclip-data.json``, which later runs verify against."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from regionclip.data.sources import Archive
from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file, write_json

RECORD = ".regionclip-data.json"
_MEND = "move it away and fetch again"
_PICTURES = {".jpg", ".jpeg", ".png"}


class Finding(NamedTuple):
    """What is there of an archive.

    Attributes:
        state: "there", "missing" or "differs".
        detail: In words: how it was verified, what is missing or differs.
    """

    state: str
    detail: str


def read_record(root: Path) -> dict[str, dict]:
    """Return what was fetched: archive name -> url, bytes, sha256, files (path -> bytes), sums (path -> SHA-256).

    Raises:
        InputError: The record is broken.
    """
    file = root / RECORD
    if not file.exists():
        return {}
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("archives"), dict):
        raise InputError("no record of fetched data", file=file, key="archives", mend=_MEND)
    return content["archives"]


def write_record(root: Path, archive: Archive, sha256: str, size: int, files: dict[str, int]) -> None:
    """Add an archive to the record; annotation files are summed, pictures are known by name and size.

    Args:
        root: Folder of the data sets.
        archive: What was fetched.
        sha256: Of the archive.
        size: Of the archive, in bytes.
        files: Unpacked files, by path relative to ``root``.
    """
    sums = {path: sha256_file(root / path) for path in files if Path(path).suffix not in _PICTURES}
    entry = {"url": archive.url, "bytes": size, "sha256": sha256, "files": files, "sums": sums}
    # One entry a line would be a hundred thousand lines.
    write_json(root / RECORD, {"archives": {**read_record(root), archive.name: entry}}, indent=None)


def look(root: Path, archive: Archive) -> Finding:
    """Compare what lies below ``root`` with the record, or with the table where there is no record."""
    entry = read_record(root).get(archive.name)
    return _by_table(root, archive) if entry is None else _by_record(root, entry)


def _by_record(root: Path, entry: dict) -> Finding:
    files, sums = entry["files"], entry["sums"]
    missing = [path for path in files if not (root / path).is_file()]
    if missing:
        return Finding("missing", _some(missing, len(files), "missing"))
    differs = [path for path, size in files.items() if (root / path).stat().st_size != size]
    differs = differs or [path for path, digest in sums.items() if sha256_file(root / path) != digest]
    if differs:
        return Finding("differs", _some(differs, len(files), "not as fetched"))
    return Finding("there", f"{len(files)} files as fetched")


def _by_table(root: Path, archive: Archive) -> Finding:
    """What a user put there by hand is known by its count only."""
    missing, differs = [], []
    for path, wanted in archive.gives.items():
        place = root / path
        count = sum(1 for _ in place.glob("*.jpg")) if place.is_dir() else int(place.is_file())
        if count == 0:
            missing.append(path)
        elif count != wanted:
            differs.append(f"{path} has {count} files, not {wanted}")
    if missing:
        return Finding("missing", ", ".join(missing))
    if differs:
        return Finding("differs", ", ".join(differs))
    return Finding("there", "by count only; put here by hand, not verified")


def _some(paths: list[str], total: int, what: str) -> str:
    return f"{len(paths)} of {total} files {what}: {', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}"
