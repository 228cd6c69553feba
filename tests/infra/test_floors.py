"""The floors of the packages hold, and an import that goes against them is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _lint(root: Path) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def test_the_floors_hold() -> None:
    code, said = _lint(ROOT)
    assert code == 0 and "0 broken" in said, said


@pytest.mark.parametrize(
    ("file", "planted"),
    [
        ("regionclip/data/layout.py", "regionclip.engine"),
        ("regionclip/engine/training.py", "regionclip.tracking"),
        ("regionclip/evaluation/coco.py", "regionclip.models"),
        ("regionclip/text/prompts.py", "regionclip.demo_world"),
        ("flows/publish.py", "torch"),
    ],
)
def test_an_import_against_them_is_told(tmp_path: Path, file: str, planted: str) -> None:
    for package in ("regionclip", "flows"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as module:
        module.write(f"\nimport {planted}\n")
    code, said = _lint(tmp_path)
    assert code == 1 and planted in said and file.removesuffix(".py").replace("/", ".") in said
