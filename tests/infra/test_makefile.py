"""`make demo` works with and without Git; what a build leaves behind is no part of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGE = "stages:\n  hello:\n    cmd: echo hello > out.txt\n    outs: [out.txt]\n"


def _demo(folder: Path, path: str = os.environ["PATH"]) -> str:
    # A make that runs the tests leaves its own level and flags in the environment.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment = {**outer, "PATH": path, "GIT_CEILING_DIRECTORIES": str(folder.parent), "SHELL": "/bin/sh"}
    command = ["make", "--assume-old", ".venv/.installed", "demo"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_runs_without_a_git_repository(tmp_path: Path) -> None:
    """DVC's own word would be an error; once there is a repository, DVC uses it."""
    folder = tmp_path / "project"
    for file in ("Makefile", ".dvc/config", ".dvc/.gitignore", "requirements.lock", "pyproject.toml"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    (folder / "dvc.yaml").write_text(STAGE)
    (folder / "reports").mkdir()
    (folder / "reports/summary.md").write_text("the table")
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (folder / ".venv/.installed").touch()
    without = tmp_path / "bin"
    without.mkdir()
    for name in ("sh", "cat", "echo", "make", "env"):
        (without / name).symlink_to(shutil.which(name))
    said = _demo(folder, str(without))
    assert "no Git repository" in said and said.endswith("the table") and (folder / "out.txt").is_file()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    (folder / "out.txt").unlink()
    assert "no Git repository" not in _demo(folder) and (folder / "out.txt").is_file()
    assert "no_scm" not in (folder / ".dvc/config.local").read_text()


def test_what_a_build_leaves_is_ignored() -> None:
    for name in ("build/lib/regionclip/cli.py", "dist/regionclip.whl", "regionclip.egg-info/PKG-INFO"):
        assert not subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, check=False).returncode, name
    tracked = ["regionclip/demo_world/build.py"]
    assert subprocess.run(["git", "check-ignore", "--quiet", *tracked], cwd=ROOT, check=False).returncode == 1
