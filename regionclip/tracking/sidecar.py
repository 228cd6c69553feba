"""Sidecars: a small JSON file among a stage's outputs that says which MLflow run made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regionclip.errors import InputError
from regionclip.files import read_json, write_json

_KEYS = {"stage": str, "run_id": str | None, "seconds": int | float, "digest": str}


def write_sidecar(path: str | Path, stage: str, run_id: str | None, seconds: float, digest: str) -> None:
    """Write a sidecar: DVC's name of the stage, its MLflow run (None: not delivered), seconds, and `stage_digest`."""
    write_json(path, dict(zip(_KEYS, (stage, run_id, seconds, digest), strict=True)))


def read_sidecars(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Read all sidecars of a folder, by stage.

    Raises:
        InputError: A file is not JSON, or lacks a key or has something else there.
    """
    found = {}
    for path in sorted(Path(folder).glob("[!.]*.json")):
        sidecar = read_json(path)
        for key, kind in _KEYS.items():
            if not isinstance(sidecar, dict) or key not in sidecar or not isinstance(sidecar[key], kind):
                problem = "the key is missing or of another type"
                raise InputError(problem, file=path, key=key, mend="run the stage again")
        found[sidecar["stage"]] = sidecar
    return dict(sorted(found.items()))
