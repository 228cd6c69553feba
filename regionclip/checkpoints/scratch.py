"""Scratch folders: resumable state, named by a digest of what decides a stage's result."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(".scratch")
_LETTERS = 16  # of the digest, in folder names


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
