"""The floors of the packages hold, and an import that goes against them is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLANTED = {
    "regionclip/data/layout.py": "regionclip.engine",
    "regionclip/engine/training.py": "regionclip.tracking",
    "regionclip/evaluation/coco.py": "regionclip.models",
    "regionclip/text/prompts.py": "regionclip.demo_world",
    "flows/publish.py": "torch",
}


def _lint(root: Path) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, done.stdout


def test_the_floors_hold() -> None:
    code, said = _lint(ROOT)
    assert code == 0 and "0 broken" in said, said


def test_imports_against_them_are_told(tmp_path: Path) -> None:
    for package in ("regionclip", "flows"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, planted in PLANTED.items():
        with (tmp_path / file).open("a") as module:
            module.write(f"\nimport {planted}\n")
    code, said = _lint(tmp_path)
    told = " ".join(said.split())
    for file, planted in PLANTED.items():
        assert f"{file.removesuffix('.py').replace('/', '.')} -> {planted}" in told, said
    assert code == 1
