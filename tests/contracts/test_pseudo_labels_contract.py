"""Contract of pseudo labels, on tables with planted faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regionclip.contracts.gate import gate, run_checks
from regionclip.contracts.regions import label_profile, pseudo_label_checks
from regionclip.errors import DataCheckFailed

IMAGES = pd.DataFrame({"id": [1, 2, 3], "width": 40, "height": 30})


def _regions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [1, 1, 2, 3],
            "x1": np.float32([0, 5, 2, 3]),
            "y1": np.float32([0, 5, 2, 3]),
            "x2": np.float32([40, 20, 12, 13]),
            "y2": np.float32([30, 20, 12, 13]),
            "objectness": np.float32([3, -2, 0, 1]),
            "top_concept": np.int32([0, 1, 2, 0]),
            "top_prob": np.float32([0.9, 0.05, 0.3, 1.0]),
        }
    )


def _checks(regions: pd.DataFrame, kept: float = 0.5) -> list:
    demands = {"pool_size": 3, "threshold": 0.1, "min_kept_fraction": kept, "max_regions": 2}
    return pseudo_label_checks(Path("store"), regions, IMAGES, **demands)


def test_clean_labels_pass_and_the_kept_fraction_is_measured() -> None:
    results = run_checks(_checks(_regions()))
    assert all(result["success"] for result in results if result["severity"] == "error")
    assert next(result["observed"] for result in results if result["column"] == "kept") == 0.75


def test_one_concept_for_most_regions_is_a_warning_and_the_histograms_are_counted() -> None:
    failed = [result for result in run_checks(_checks(_regions())) if not result["success"]]
    assert [(result["severity"], result["artefact"]) for result in failed] == [("warning", "pseudo label concepts")]
    assert failed[0]["records"] == [{"file": "store", "concept": 0, "regions": 2, "share": 2 / 3}]
    profile = label_profile(_regions(), 0.1)
    assert profile["concepts"] == {0: 2, 2: 1}, "the region of concept 1 is below the threshold"
    assert {bin: count for bin, count in enumerate(profile["confidence"]) if count} == {1: 1, 6: 1, 18: 1, 19: 1}


@pytest.mark.parametrize(
    ("row", "column", "value", "problem"),
    [
        (2, "x2", 41, "the box leaves the image"),
        (2, "y2", 31, "the box leaves the image"),
        (2, "x1", -1, "the box leaves the image"),
        (2, "x2", 2, "the box is empty"),
        (2, "y2", 1, "the box is empty"),
        (2, "y1", np.nan, "not a number"),
        (2, "objectness", np.inf, "the logit is not finite"),
        (2, "objectness", np.nan, "not a number"),
        (2, "top_prob", 1.5, "not a probability"),
        (2, "top_prob", np.nan, "not a number"),
        (2, "top_concept", 3, "outside the pool of 3 concepts"),
        (2, "image_id", 9, "the image is not listed"),
    ],
)
def test_a_planted_fault_is_named(tmp_path: Path, row: int, column: str, value: float, problem: str) -> None:
    regions = _regions()
    regions.loc[row, column] = value
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        gate("labels", _checks(regions)[:1], tmp_path)
    where = "image_id 9, region 0" if column == "image_id" else "image_id 2, region 0"
    assert caught.value.file == "store" and caught.value.record.startswith(where)


def test_images_with_no_or_too_many_regions_are_named(tmp_path: Path) -> None:
    regions = _regions()
    regions["image_id"] = [1, 1, 1, 2]
    results = run_checks(_checks(regions))
    failed = {
        result["problem"]: result["records"]
        for result in results
        if "region" in str(result["column"]) and not result["success"]
    }
    assert {problem: [row["id"] for row in rows] for problem, rows in failed.items()} == {
        "an image has no region": [3],
        "an image has more than 2 regions": [1],
    }


def test_too_few_kept_regions_stop_the_pipeline(tmp_path: Path) -> None:
    with pytest.raises(DataCheckFailed, match=r"too few regions are above the threshold 0\.1 \(found 0\.75\)"):
        gate("labels", _checks(_regions(), kept=0.8), tmp_path)
