"""Puts a profile of the commit in the place of params.yaml, or params.yaml as it is committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from regionclip.errors import InputError
from regionclip.files import atomic_path

PARAMS = "params.yaml"
PROFILES = "profiles"


def use_profile(root: Path, name: str | None) -> str:
    """Write profiles/NAME.yaml of the commit over params.yaml; None writes the committed params.yaml.

    Args:
        root: A checkout; changes in its params.yaml are lost, so it is a run's own.
        name: Of the profile, without .yaml.

    Returns:
        The key ``profile`` of params.yaml; ``none`` where there is neither.

    Raises:
        InputError: The commit holds no such profile.
    """
    profiles = {Path(path).stem for path in _git(root, "ls-tree", "--name-only", "HEAD", f"{PROFILES}/").split()}
    if name is not None and name not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        file = root / PROFILES / f"{name}.yaml"
        raise InputError(
            "the commit holds no such profile", file=file, key="profile", mend=f"commit it; there: {known}"
        )
    params = _git(root, "show", f"HEAD:./{PROFILES}/{name}.yaml" if name is not None else f"HEAD:./{PARAMS}")
    if not params:
        return "none"
    with atomic_path(root / PARAMS) as beside:
        beside.write_text(params, encoding="utf-8")
    return str((yaml.safe_load(params) or {}).get("profile", "none"))


def _git(root: Path, *arguments: str) -> str:
    """Return what Git says; nothing where the commit lacks it."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False).stdout
