"""Pseudo-label precision: a scene judged by hand, how concepts are read, confidence bins, refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionclip.errors import InputError
from regionclip.evaluation.pseudo_labels import LabelledRegions, pseudo_label_precision


@dataclass
class Split:
    base_names: tuple[str, ...] = ("star", "moon")
    novel_names: tuple[str, ...] = ("half moon",)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Image 1: a red star, a light blue half moon. Image 2: a moon of no named colour. Image 3: empty."""
    things = [(1, 1, [0, 0, 10, 10], "red"), (1, 3, [20, 20, 10, 10], "light blue"), (2, 2, [0, 0, 10, 10], "green")]
    path = tmp_path / "truth.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": i} for i in (1, 2, 3)],
                "annotations": [
                    {"id": i, "image_id": image, "category_id": category, "bbox": box, "colour": colour}
                    for i, (image, category, box, colour) in enumerate(things, start=1)
                ],
                "categories": [{"id": 1, "name": "star"}, {"id": 2, "name": "moon"}, {"id": 3, "name": "half moon"}],
            }
        )
    )
    return path


def regions(image_id: int, rows: list[tuple[list[float], str, float, bool]]) -> LabelledRegions:
    boxes, concepts, confidence, keep = zip(*rows, strict=True) if rows else ((), (), (), ())
    return LabelledRegions(
        image_id, np.array(boxes, dtype=np.float32), concepts, np.array(confidence), np.array(keep, dtype=bool)
    )


def test_a_scene_judged_by_hand(truth: Path) -> None:
    """Kept: 6, of them 5 on objects, 3 with the right shape. Colours named on objects: 3, right: 2."""
    given = [
        regions(
            1,
            [
                ([0, 0, 10, 10], "red star", 0.95, True),  # right, colour right
                ([0, 0, 10, 6], "light blue star", 0.75, True),  # IoU 0.6: right, colour wrong
                ([20, 20, 30, 30], "light blue moon", 0.65, True),  # a half moon is no moon; colour right
                ([20, 20, 30, 30], "half moon", 0.55, False),  # right, but not kept
                ([0, 0, 10, 4], "star", 0.5, True),  # IoU 0.4: on no object, wrong
            ],
        ),
        regions(2, [([0, 0, 10, 10], "moon", 1.0, True), ([0, 0, 10, 10], "starmoon", 0.05, True)]),
        regions(3, []),
    ]
    result = pseudo_label_precision(truth, given, Split())
    assert result["precision"] == pytest.approx(3 / 5)
    assert result["precision_all_kept"] == pytest.approx(3 / 6)
    assert result["on_object_fraction"] == pytest.approx(5 / 6)
    assert result["colour_precision"] == pytest.approx(2 / 3)
    assert result["per_class"] == pytest.approx({"star": 1.0, "half moon": 0.0, "moon": 0.5})
    assert (result["precision_base"], result["precision_novel"]) == (pytest.approx(3 / 4), 0.0)
    assert (result["kept"], result["regions"], result["kept_fraction"]) == (6, 7, pytest.approx(6 / 7))


def test_bins_count_kept_and_left_out_regions(truth: Path) -> None:
    rows = [
        ([0, 0, 10, 10], "star", 0.1, False),
        ([0, 0, 10, 10], "moon", 0.49, True),
        ([50, 50, 60, 60], "star", 1.0, True),
    ]
    low, high = pseudo_label_precision(truth, [regions(1, rows)], Split(), bins=2)["by_confidence"]
    assert low == {"low": 0.0, "high": 0.5, "regions": 2, "kept": 1, "on_object": 1.0, "precision": 0.5}
    assert high == {"low": 0.5, "high": 1.0, "regions": 1, "kept": 1, "on_object": 0.0, "precision": None}


@pytest.mark.parametrize(
    ("concept", "right"),
    [
        ("star", True),
        ("big red star", True),
        ("stars", False),
        ("star shape", False),
        ("red", False),
        ("superstar", False),
    ],
)
def test_the_shape_is_the_last_word_of_a_concept(truth: Path, concept: str, right: bool) -> None:
    result = pseudo_label_precision(truth, [regions(1, [([0, 0, 10, 10], concept, 0.9, True)])], Split())
    assert result["precision"] == float(right)


def test_nothing_kept_gives_none(truth: Path) -> None:
    result = pseudo_label_precision(truth, [], Split())
    assert [result[key] for key in ("precision", "precision_novel", "on_object_fraction", "kept_fraction")] == [
        None
    ] * 4
    assert result["per_class"] == {}


def test_an_image_without_truth_is_refused(truth: Path) -> None:
    with pytest.raises(InputError, match="record 9: the truth lacks the image"):
        pseudo_label_precision(truth, [regions(9, [])], Split())


def test_a_truth_without_colours_is_refused(truth: Path) -> None:
    content: dict[str, Any] = json.loads(truth.read_text())
    del content["annotations"][1]["colour"]
    truth.write_text(json.dumps(content))
    with pytest.raises(InputError, match="record 2, key 'colour'"):
        pseudo_label_precision(truth, [], Split())
