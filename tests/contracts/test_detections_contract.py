"""Contract of detections: clean ones pass, each planted fault is named, too few are a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regionclip.contracts.detections import detection_checks
from regionclip.contracts.gate import run_checks
from regionclip.data.annotations.truth import BoxColumns, Truth

FILE = Path("artifacts/evaluate/coco/clip.json")
IMAGES = [{"id": number, "width": 40, "height": 30} for number in (1, 2, 3)]
TRUTH = Truth(Path("truth.json"), IMAGES, [], BoxColumns().arrays())


def _found(**changes: Any) -> list[dict[str, Any]]:
    found = [
        {"image_id": image, "category_id": 5, "bbox": [1.0, 2.0, 38.5, 28.0], "score": 0.5} for image in (1, 1, 2, 3)
    ]
    found[2] |= changes
    return found


def _failed(found: list[dict[str, Any]], most: int = 2) -> list[dict[str, Any]]:
    columns = BoxColumns()
    for row in found:
        columns.add(row["image_id"], row["category_id"], row["bbox"], score=row["score"])
    return [r for r in run_checks(detection_checks(FILE, columns.arrays(), TRUTH, {5, 6}, most)) if not r["success"]]


def test_clean_detections_pass() -> None:
    assert _failed(_found()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image_id": 9}, "the image was not tested"),
        ({"category_id": 7}, "the class is not in the vocabulary"),
        ({"bbox": [1, 2, -1, 4]}, "the box has a negative size"),
        ({"bbox": [1, 2, 41, 4]}, "the box leaves its image"),
        ({"bbox": [-3, 2, 10, 4]}, "the box leaves its image"),
        ({"score": -0.5}, "the score is negative"),
        ({"score": float("nan")}, "not a number"),
    ],
)
def test_a_planted_fault_is_named(changes: dict[str, Any], problem: str) -> None:
    failed = [result for result in _failed(_found(**changes)) if result["artefact"] == "detections coco clip"]
    assert [result["problem"] for result in failed] == [problem]
    assert (failed[0]["records"][0]["place"], failed[0]["severity"]) == (2, "error")


def test_too_many_on_an_image_are_an_error_and_none_on_most_a_warning() -> None:
    assert [result["problem"] for result in _failed(_found(), most=1)] == ["an image has more than 1 detections"]
    assert [(r["severity"], r["problem"]) for r in _failed(_found()[:2])] == [
        ("warning", "most images have no detection")
    ]
    assert "nothing was detected" in [result["problem"] for result in _failed([])]
