"""Contract of pseudo labels, on real stores and on tables with planted faults, and its stage."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from regionclip.contracts.checkpoint import gate, run_checks
from regionclip.contracts.pseudo_labels import Demands, pseudo_label_checks
from regionclip.errors import DataCheckFailed, InputError
from regionclip.files import read_json
from regionclip.params import load_params
from regionclip.regions.store import RegionStoreWriter
from regionclip.stages import check_pseudo_labels
from regionclip.text.concepts import ConceptPool

DEMANDS = Demands(pool_size=3, threshold=0.1, min_kept_fraction=0.5, max_regions=2)
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


def _checks(regions: pd.DataFrame, demands: Demands = DEMANDS) -> list:
    return pseudo_label_checks(Path("store"), regions, IMAGES, demands)


def test_clean_labels_pass_and_the_kept_fraction_is_measured() -> None:
    results = run_checks(_checks(_regions()))
    assert all(result["success"] for result in results)
    assert next(result["observed"] for result in results if result["column"] == "kept") == 0.75


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
        (2, "image_id", 9, "not among the scenes"),
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
    failed = {result["problem"]: result["records"] for result in results if not result["success"]}
    assert {problem: [row["id"] for row in rows] for problem, rows in failed.items()} == {
        "a scene has no region": [3],
        "a scene has more than 2 regions": [1],
    }


def test_too_few_kept_regions_stop_the_pipeline(tmp_path: Path) -> None:
    demands = Demands(pool_size=3, threshold=0.1, min_kept_fraction=0.8, max_regions=2)
    with pytest.raises(DataCheckFailed, match=r"too few regions are above the threshold 0\.1 \(found 0\.75\)"):
        gate("labels", _checks(_regions(), demands), tmp_path)


@pytest.fixture
def project(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with scenes and a concept pool; the store is the test's."""
    monkeypatch.chdir(data.parent)
    ConceptPool(("star", "boat", "ring"), (9, 5, 2), "pattern", 1).save("artifacts/concepts/concepts.csv")
    return data.parent


def _store(path: Path, metadata: dict[str, str], concept: int = 0) -> None:
    with RegionStoreWriter(path, metadata, k=2) as writer:
        for image_id in (1, 2, 3):
            boxes = np.float32([[0, 0, 40, 30], [5, 5, 20, 20]])
            index, prob = np.int32([[concept, 1], [2, 0]]), np.float32([[0.8, 0.1], [0.05, 0.02]])
            writer.add(image_id, boxes, np.float32([2, -1]), index, prob)


def _context(min_kept: float) -> SimpleNamespace:
    params = load_params(Path(__file__).parents[1] / "tiny.yaml")
    demands = params.check_pseudo_labels.model_copy(update={"min_kept_fraction": min_kept, "max_regions": 10})
    return SimpleNamespace(params=params.model_copy(update={"check_pseudo_labels": demands}))


def test_the_stage_measures_a_clean_store(project: Path) -> None:
    _store(project / "artifacts/pseudo_labels", {"threshold": "0.1"})
    metrics = check_pseudo_labels.run(_context(0.5))
    assert metrics["kept_fraction"] == 0.5 and metrics["regions"] == 6 and metrics["images"] == 3
    assert read_json("reports/checks/check_pseudo_labels.json")["success"] is True


def test_the_stage_checks_whole_images_of_a_store_that_is_too_large(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store(project / "artifacts/pseudo_labels", {"threshold": "0.1"})
    monkeypatch.setattr(check_pseudo_labels, "MOST_REGIONS", 3)
    metrics = check_pseudo_labels.run(_context(0.5))
    assert (metrics["regions"], metrics["images"]) == (2, 1)


def test_the_stage_stops_on_a_store_of_another_pool(project: Path) -> None:
    _store(project / "artifacts/pseudo_labels", {"threshold": "0.1"}, concept=7)
    with pytest.raises(DataCheckFailed, match=r"artifacts/pseudo_labels, record image_id 1.*outside the pool of 3"):
        check_pseudo_labels.run(_context(0.5))
    assert read_json("reports/checks/check_pseudo_labels.json")["success"] is False


def test_the_stage_refuses_a_store_without_threshold(project: Path) -> None:
    _store(project / "artifacts/pseudo_labels", {})
    with pytest.raises(InputError, match="key 'threshold'"):
        check_pseudo_labels.run(_context(0.5))
