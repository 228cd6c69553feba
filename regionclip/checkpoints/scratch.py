"""Scratch folders: resumable state, named by a digest of what decides a stage's result."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regionclip.files import sha256_file

ROOT = Path(".scratch")
_LETTERS = 16  # of the digest, in folder names


def stage_digest(params: dict[str, Any], inputs: Sequence[Path]) -> str:
    """Return a SHA-256 (hex) of a stage's params and the names and bytes of its inputs.

    Args:
        params: The params that the stage depends on; the order of keys does not matter.
        inputs: The files and folders that it reads; their order does not matter.
    """
    content = {
        "params": params,
        "inputs": {file.as_posix(): sha256_file(file) for path in inputs for file in _files(path)},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    """Return the files below ``path``, or itself; without Python's caches, which appear when a stage loads its code."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def scratch_folder(stage: str, digest: str, root: Path = ROOT) -> Path:
    """Return the folder for a stage's resumable state; it is not created here."""
    return root / stage / digest[:_LETTERS]


def clean_scratch(stage: str, keep: str | None = None, root: Path = ROOT) -> None:
    """Remove a stage's scratch folders when it has finished.

    Args:
        stage: The stage.
        keep: The digest whose folder stays; None removes all.
        root: The folder of all scratch.
    """
    folder = root / stage
    if not folder.is_dir():
        return
    for state in folder.iterdir():
        if keep is None or state != scratch_folder(stage, keep, root):
            shutil.rmtree(state)
    if not any(folder.iterdir()):
        folder.rmdir()
