"""The benchmark of growth runs at tiny sizes, in two processes too, and writes its page and picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import growth, speed
from regionclip.files import read_json
from tests.benchmarks.test_cuda import SIZES
from tests.benchmarks.test_speed import CLIP

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_each_axis_is_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"regions": (3, 5), "classes": (4, 9), "pictures": (1, 2), "processes": (2,)}
    monkeypatch.setattr(speed.open_clip, "get_model_config", lambda name: CLIP)
    monkeypatch.setattr(growth, "AXES", {"cpu": axes})
    monkeypatch.setattr(growth, "SMALL", SIZES)
    for name, value in {"REGIONCLIP_DEVICE": "", "REGIONCLIP_PRECISION": "", "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    growth.main(["--out", str(tmp_path)])
    found = read_json(tmp_path / "growth_cpu.json")["seconds"]
    assert {name: tuple(map(int, points)) for name, points in found.items()} == axes
    assert all(seconds > 0 for points in found.values() for seconds in points.values())
    assert "| detection in one picture, by proposals | 3 | 5 |" in (tmp_path / "growth_cpu.md").read_text()
    assert (tmp_path / "growth_cpu.png").stat().st_size > 10_000
