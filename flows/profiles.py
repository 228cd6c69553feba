"""Puts a profile in the place of params.yaml, in a checkout where nobody's changes are lost by it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from regionclip.errors import InputError
from regionclip.files import atomic_path

PARAMS = "params.yaml"
PROFILES = "profiles"


def use_profile(root: Path, name: str | None) -> str:
    """Copy profiles/NAME.yaml over params.yaml; None leaves it as it is.

    Returns:
        The key ``profile`` of params.yaml.

    Raises:
        InputError: There is no such profile, or params.yaml has changes that are not committed.
    """
    params = root / PARAMS
    if name is not None:
        profile = root / PROFILES / f"{name}.yaml"
        known = sorted(path.stem for path in (root / PROFILES).glob("*.yaml"))
        if name not in known:
            raise InputError("no such profile", file=profile, key="profile", mend=f"profiles are {', '.join(known)}")
        if not params.exists() or params.read_bytes() != profile.read_bytes():
            _refuse_changes(root)
            with atomic_path(params) as beside:
                beside.write_bytes(profile.read_bytes())
    if not params.exists():
        return "none"
    return str((yaml.safe_load(params.read_text(encoding="utf-8")) or {}).get("profile", "none"))


def _refuse_changes(root: Path) -> None:
    status = ["git", "status", "--porcelain", "--", PARAMS]
    found = subprocess.run(status, cwd=root, capture_output=True, text=True, check=False)
    if found.returncode or found.stdout.strip():
        raise InputError(
            "it has changes that are not committed, and a profile would overwrite them",
            file=root / PARAMS,
            mend="commit them, or run without a profile",
        )
