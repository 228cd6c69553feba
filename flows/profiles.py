"""Puts a profile in the place of params.yaml, or params.yaml as it is committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from regionclip.errors import InputError
from regionclip.files import atomic_path
from regionclip.workspace.profiles import OWN, profile_text, profile_titles

PARAMS = "params.yaml"


def use_profile(root: Path, name: str | None) -> str:
    """Write a profile of the commit over params.yaml; None writes the committed params.yaml.

    Args:
        root: A checkout; changes in its params.yaml and profiles are lost, so it is a run's own.
        name: Of the profile, as `regionclip profile` lists it.

    Returns:
        The key ``profile`` of params.yaml; ``none`` where there is neither.

    Raises:
        InputError: The commit holds no such profile, or it makes no params.
    """
    if name is None:
        params = _git(root, "show", f"HEAD:./{PARAMS}")
    else:
        # What an earlier run has linked here is not of the commit.
        _git(root, "clean", "-ffdqx", "--", OWN)
        known = profile_titles(root)
        if name not in known:
            file, mend = root / OWN / f"{name}.yaml", f"commit it; there: {', '.join(known)}"
            raise InputError("the commit holds no such profile", file=file, key="profile", mend=mend)
        params = profile_text(name, root)
    if not params:
        return "none"
    with atomic_path(root / PARAMS) as beside:
        beside.write_text(params, encoding="utf-8")
    return str((yaml.safe_load(params) or {}).get("profile", "none"))


def _git(root: Path, *arguments: str) -> str:
    """Return what Git says; nothing where the commit lacks it."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False).stdout
