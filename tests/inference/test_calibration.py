"""Chances are fitted where they are known, hold on other draws, and stay with the detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regionclip.data.annotations.truth import BoxArrays, BoxColumns, Truth
from regionclip.data.layout import ClassList
from regionclip.errors import InputError
from regionclip.files import sha256_file
from regionclip.inference import RegionCLIP
from regionclip.inference.calibration import Calibration, Judged, calibration_error, check, fit, judged


def drawn(seed: int, size: int = 100_000) -> Judged:
    """Detections whose chance is known: base sigmoid(2 log s + 1), novel sigmoid(2 log s - 1)."""
    rng = np.random.default_rng(seed)
    scores, novel = rng.uniform(0.02, 1.0, size), rng.random(size) < 0.4
    right = rng.random(size) < 1 / (1 + np.exp(-(2 * np.log(scores) + np.where(novel, -1, 1))))
    absent = ~right & (rng.random(size) < 0.5)
    return Judged(scores, right, novel, absent, (1000, 1000))


def test_curves_are_those_that_drew_the_detections() -> None:
    made = fit(drawn(0), ["cat"], "d", "t")
    assert [made.base.slope, made.base.intercept] == pytest.approx([2, 1], abs=0.1)
    assert [made.novel.slope, made.novel.intercept] == pytest.approx([2, -1], abs=0.1)
    confidence = made.confidence(np.array([0.5, 0.5]), ["cat", "dog"])
    assert confidence == pytest.approx(
        [1 / (1 + np.exp(2 * np.log(2) - 1)), 1 / (1 + np.exp(2 * np.log(2) + 1))], abs=0.02
    )


def test_error_falls_and_thresholds_hold_on_other_draws() -> None:
    """The threshold for a precision gives it within 5 points elsewhere; precisions that nothing reaches are missing."""
    made = fit(drawn(1), ["cat"], "d", "t")
    found = check(made, drawn(2))
    for group in ("base", "novel"):
        assert found[group]["ece"] < 0.03 < found[group]["ece_score"]
        for precision, measured in found[group]["at"].items():
            assert abs(measured["precision"] - float(precision)) < 0.05 and measured["kept"] > 0
    assert "0.95" not in made.novel.thresholds and "0.7" in made.base.thresholds
    with pytest.raises(InputError, match="record dog.*no score is right in 95%"):
        made.thresholds(["dog"], 0.95)
    with pytest.raises(InputError, match="was not measured"):
        made.thresholds(["cat"], 0.77)


def test_calibration_error_by_hand() -> None:
    """Two detections in two bins: |0.9 - 1| and |0.5 - 0|, each half."""
    assert calibration_error(np.array([0.9, 0.5]), np.array([True, False])) == pytest.approx(0.3)


CLASSES = ClassList(("cat", "dog"), (1, 2), ("cat",), ("dog",), {})


def boxes(*rows: tuple[int, int, tuple[float, ...], float]) -> BoxArrays:
    """Rows of image, class, box and score."""
    columns = BoxColumns()
    for image, category, box, score in rows:
        columns.add(image, category, box, score=score)
    return columns.arrays()


def test_detections_are_judged_and_chances_of_false_alarms_counted() -> None:
    """By hand: the surest on a cat is right, a second one and a dog on it are not; of four pairs two have no object."""
    images, categories = [{"id": 1}, {"id": 2}], [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    cat, dog = (1, 1, (0, 0, 10, 10), 1.0), (2, 2, (5, 5, 10, 10), 1.0)
    truth = Truth(Path("truth.json"), images, categories, boxes(cat, dog))
    found = boxes((1, 1, (0, 0, 10, 10), 0.9), (1, 1, (0, 0, 10, 9), 0.8), (1, 2, (0, 0, 10, 10), 0.7), (*dog[:3], 0.3))
    seen = judged("generalised", truth, found, CLASSES)
    assert seen.right.tolist() == [True, False, False, True] and seen.novel.tolist() == [False, False, True, True]
    assert seen.absent.tolist() == [False, False, True, False] and seen.chances == (1, 1)


def test_of_lvis_only_what_is_known_to_be_absent_is_a_chance() -> None:
    """A detection of a class that nobody looked for is not judged."""
    images = [{"id": 1, "neg_category_ids": [2], "not_exhaustive_category_ids": []},
              {"id": 2, "neg_category_ids": [], "not_exhaustive_category_ids": []}]  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    truth = Truth(Path("truth.json"), images, categories, boxes((1, 1, (0, 0, 10, 10), 1.0)))
    found = boxes((1, 2, (0, 0, 9, 9), 0.9), (2, 1, (0, 0, 10, 10), 0.8), (1, 1, (0, 0, 10, 10), 0.7))
    seen = judged("federated", truth, found, replace(CLASSES, frequency={"cat": "f", "dog": "r"}))
    assert seen.scores.tolist() == [0.9, 0.7] and seen.absent.tolist() == [True, False] and seen.chances == (0, 1)


def test_detector_keeps_its_calibration(workspace: Path, tmp_path: Path, monkeypatch) -> None:
    """A bundle has its curve; that of another detector is not used."""
    monkeypatch.chdir(workspace)
    model = RegionCLIP.open()
    found = drawn(3, 500)
    digest = sha256_file(model.files.detector)
    made = fit(found, ["star", "fish"], digest, "t")
    made.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == made
    RegionCLIP(replace(model.files, calibration=tmp_path / "c.json")).bundle(tmp_path / "bundle")
    result = RegionCLIP.open(tmp_path / "bundle")("data/sets/coco/val/1.png", ["star", "crown"], threshold=0.001)
    assert len(result) and result.confidence.shape == result.scores.shape and (result.confidence <= 1).all()
    assert "confidence" in result.to_dataframe() and result[:1].confidence.shape == (1,)
    replace(made, detector_sha256="f").save(tmp_path / "other.json")
    assert RegionCLIP(replace(model.files, calibration=tmp_path / "other.json")).calibration is None
    with pytest.raises(InputError, match="not calibrated"):
        model.thresholds(["star"], 0.9)
    (tmp_path / "other.json").write_text('{"format": "else"}')
    with pytest.raises(InputError, match="not a calibration"):
        Calibration.load(tmp_path / "other.json")
