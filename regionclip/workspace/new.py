"""A workspace outside the repository: Git, DVC and params of its own, and the installed package's code."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from regionclip.errors import InputError
from regionclip.files import atomic_path
from regionclip.runtime import VERSION
from regionclip.workspace.profiles import profile_text

_TEMPLATE = Path(__file__).with_name("template")
"""Files of the repository, which a wheel holds as copies."""


def new_workspace(folder: Path, profile: str) -> bool:
    """Make a workspace, or bring one to the installed version of the package; its params then stay.

    Args:
        folder: A folder that is not there, is empty, or is a workspace already.
        profile: What a new one gets as params.yaml.

    Returns:
        Whether it was there.

    Raises:
        InputError: The folder holds something else, the profile is not there, or Git or DVC refuse.
    """
    known = (folder / VERSION).exists()
    if not known and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("it is there and no workspace", file=folder, mend="name a folder that is empty or not there")
    params = "" if known else profile_text(profile)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "dvc.yaml", _pipeline())
    _write(folder / VERSION, f"{importlib.metadata.version('regionclip')}\n")
    if known:
        return True
    _write(folder / "params.yaml", params)
    for name in ("gitignore", "dvcignore"):
        _write(folder / f".{name}", (_TEMPLATE / name).read_text(encoding="utf-8"))
    dvc = [sys.executable, "-m", "dvc"]
    for command in (["git", "init"], [*dvc, "init"], [*dvc, "config", "core.analytics", "false"]):
        done = subprocess.run([*command, "--quiet"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            problem = f"`{' '.join(command)}` failed ({' '.join((done.stderr or done.stdout).split())})"
            raise InputError(problem, file=folder, mend="mend it, remove the folder, and try again")
    return False


def _pipeline() -> str:
    """The repository's dvc.yaml; in the place of its code, stages depend on the version of the package."""
    lines, before = [], False
    for line in (_TEMPLATE / "pipeline.yaml").read_text(encoding="utf-8").splitlines():
        code = re.match(r"( +- )regionclip/", line)
        if not code:
            lines.append(line)
        elif not before:
            lines.append(f"{code[1]}{VERSION}")
        before = bool(code)
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")
