"""The documents are a site: every page in it, every link sound, built and read without network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a broken link or a page in no menu would end the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_menu() -> None:
    entries = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = {entry if isinstance(entry, str) else next(iter(entry.values())) for entry in entries}
    assert pages == {file.name for file in (ROOT / "docs").glob("*.md")}


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Of scripts, styles and pictures; links that a reader follows may lead anywhere."""
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe|link rel="stylesheet")\b[^>]*(?:src|href)="(https?:[^"]*)"', page.read_text()
        )
        assert not loaded, page


def test_api_reference_has_the_whole_class(site: Path) -> None:
    text = (site / "api.html").read_text()
    for method in ("open", "detect", "vocabulary", "features", "classify", "similarity", "thresholds", "export"):
        assert f"RegionCLIP.{method}" in text
