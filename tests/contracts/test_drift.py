"""Drift: histograms by hand, a distance with known ends, and a warning for a split whose boxes are of another size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionclip.contracts.boxes import BoxTables
from regionclip.contracts.gate import run_checks
from regionclip.contracts.splits import box_profile, distance, drift_check, earlier_check
from regionclip.errors import InputError
from regionclip.files import write_json


def _tables(sides: list[tuple[float, float]], categories: list[int] | int = 1) -> BoxTables:
    """One box an image and its side lengths."""
    boxes = pd.DataFrame(sides, columns=["bbox_w", "bbox_h"]).assign(image_id=range(len(sides)), category_id=categories)
    return BoxTables(pd.DataFrame({"id": range(len(sides))}), boxes, pd.DataFrame(), [])


def test_a_profile_is_counted_by_hand() -> None:
    profile = box_profile(_tables([(8, 8), (32, 8), (90, 10), (5, 0), (7, 7)], [1, 3, 1, 1, 2]), base=[1, 3])
    assert (profile["images"], profile["boxes"]) == (3, 3), "the empty box and the novel one are left out"
    # Sides of 8, 16 and 30: bins start at 0, 4, 8, 16, 32 pixels.
    assert profile["size"][:5] == [0, 0, 0.3333, 0.6667, 0] and sum(profile["size"][5:]) == 0
    # Shapes of 1, 4 and 9: bins start at 0, 2^-2.5, 2^-1.5, 2^-0.5, 2^0.5, 2^1.5 and 2^2.5.
    assert profile["aspect"] == [0, 0, 0, 0.3333, 0, 0.3333, 0.3333]
    assert profile["boxes_per_image"] == [1, 0, 0, 0, 0, 0, 0]


shares = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).map(lambda v: (np.array(v) / sum(v)).tolist())


@given(shares, shares)
def test_the_distance_is_one(first: list[float], second: list[float]) -> None:
    assert distance(first, first) == 0 and distance(first, second) == distance(second, first)
    assert 0 <= distance(first, second) <= 1
    assert distance([1, 0], [0, 1]) == 1


def test_boxes_of_another_size_are_a_warning() -> None:
    rng = np.random.default_rng(0)
    like, larger = ([(side, side) for side in factor * rng.uniform(20, 60, 300)] for factor in (1, 4))
    tables = {"train": _tables(like), "dev": _tables(like[::-1]), "val": _tables(larger)}
    tables["few"] = _tables(larger[:50])
    results = run_checks([drift_check("coco", "train", {s: box_profile(t, [1]) for s, t in tables.items()})])
    assert [(r["severity"], r["success"]) for r in results] == [("warning", False)]
    assert [(row["split"], row["statistic"]) for row in results[0]["records"]] == [("val", "size")]


def _profiles(factor: float) -> dict[str, dict[str, Any]]:
    sides = [(side, side) for side in factor * np.random.default_rng(1).uniform(20, 60, 300)]
    return {split: box_profile(_tables(sides), [1]) for split in ("train", "val")}


def test_boxes_are_compared_with_an_earlier_run(tmp_path: Path) -> None:
    """All splits became larger together: within the run nothing differs, from the run before everything does."""
    write_json(tmp_path / "box_profile.json", {"coco": _profiles(1)})
    earlier = tmp_path / "box_profile.json"
    same, larger = (run_checks([earlier_check("coco", earlier, _profiles(factor))]) for factor in (1, 4))
    assert same[0]["success"] and not larger[0]["success"] and larger[0]["severity"] == "warning"
    assert run_checks([drift_check("coco", "train", _profiles(4))])[0]["success"]
    assert [(row["split"], row["statistic"]) for row in larger[0]["records"]] == [("train", "size"), ("val", "size")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"lvis": {}}, "key 'coco': it has no profile of this data set"),
        ([], "key 'coco': it has no profile of this data set"),
        ({"coco": {"train": {"boxes": 300, "size": [1.0]}}}, "record train, key 'size': no box profile"),
        ({"coco": {"val": 3}}, "record val, key 'boxes': no box profile"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    write_json(tmp_path / "x.json", content)
    with pytest.raises(InputError, match=words):
        earlier_check("coco", tmp_path / "x.json", _profiles(1))
