"""manifest.json of a data folder: what is in it, where it comes from, and checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regionclip.files import sha256_file, sha256_tree, write_json


def write_manifest(folder: Path, counts: dict[str, int], generator: dict[str, Any]) -> None:
    """Write FOLDER/manifest.json: counts, generator params, SHA-256 of JSON and tar files and of picture folders."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".json", ".tar"})
    sums = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
    pictures = sorted({path.parent for path in folder.rglob("*.jpg")})
    sums |= {f"{path.relative_to(folder).as_posix()}/": sha256_tree(path) for path in pictures}
    write_json(folder / "manifest.json", {"source": "demo", "counts": counts, "generator": generator, "sha256": sums})
