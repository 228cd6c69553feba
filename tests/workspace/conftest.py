"""A data set of somebody else: other pictures, three classes, COCO's form as many tools write it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``toys`` below a working folder: 12 training and 6 validation pictures of stars, hearts and rings."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(Path(__file__).parent / "make_set.py"))["make_set"](Path("toys"), train=12, val=6)
    return Path("toys")
