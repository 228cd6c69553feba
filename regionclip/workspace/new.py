"""A workspace outside the repository: Git, DVC and params of its own, and the installed package's code."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from regionclip.errors import InputError
from regionclip.files import temporary_dir
from regionclip.runtime import VERSION
from regionclip.workspace.profiles import profile_text, replace_file

_TEMPLATE = Path(__file__).with_name("template")
"""Files of the repository, which a wheel holds as copies."""


def new_workspace(folder: Path, profile: str) -> None:
    """Make a workspace.

    Args:
        folder: One that is not there, or is empty.
        profile: What it gets as params.yaml.

    Raises:
        InputError: The folder holds something, the profile is not there, or Git or DVC refuse; nothing is left of it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("it is there and no workspace", file=folder, mend="name a folder that is empty or not there")
    texts = {"params.yaml": profile_text(profile), "dvc.yaml": _pipeline(), VERSION.name: _version()}
    texts |= {f".{name}": (_TEMPLATE / name).read_text(encoding="utf-8") for name in ("gitignore", "dvcignore")}
    dvc = [sys.executable, "-m", "dvc"]
    folder.mkdir(parents=True, exist_ok=True)
    # Inside: the folder itself may be somebody's current one.
    with temporary_dir(folder / "workspace") as beside:
        for command in (["git", "init"], [*dvc, "init"], [*dvc, "config", "core.analytics", "false"]):
            done = subprocess.run([*command, "--quiet"], cwd=beside, capture_output=True, text=True, check=False)
            if done.returncode:
                problem = f"`{' '.join(command)}` failed ({' '.join((done.stderr or done.stdout).split())})"
                raise InputError(problem, file=folder, mend="mend what it says, and try again")
        for name, text in texts.items():
            (beside / name).write_text(text, encoding="utf-8")
        for made in beside.iterdir():
            made.rename(folder / made.name)


def bring_up_to_date(folder: Path) -> Path | None:
    """Give a workspace the dvc.yaml and the version of the installed package; its params stay.

    Returns:
        Where another dvc.yaml that was there is kept.
    """
    kept = replace_file(_pipeline(), folder / "dvc.yaml")
    replace_file(_version(), folder / VERSION)
    return kept


def _version() -> str:
    return f"{importlib.metadata.version('regionclip')}\n"


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
