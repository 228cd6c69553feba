"""A tiny demo world that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from regionclip.data.demo import build_demo_world

TINY = {
    "pair_size": 64,
    "scene_size": 192,
    "pairs_train": 12,
    "pairs_val": 4,
    "scenes": 24,
    "coco_train": 16,
    "coco_dev": 8,
    "coco_val": 10,
    "lvis_train": 40,
    "lvis_dev": 20,
    "lvis_val": 24,
    "objects_per_scene": (2, 6),
    "object_size": (28, 64),
    "distractors": (0, 3),
    "jpeg_quality": 92,
    "lvis_frequency_factor": 0.2,
}


@pytest.fixture(scope="session")
def tiny_spec() -> SimpleNamespace:
    """Sizes of the tiny world."""
    return SimpleNamespace(**TINY)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_spec: SimpleNamespace) -> Path:
    """The folder ``data`` of a tiny world, seed 0; tests must not change it."""
    root = tmp_path_factory.mktemp("world") / "data"
    build_demo_world(root, tiny_spec, seed=0, workers=1)
    return root
