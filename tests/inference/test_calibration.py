"""Chances are fitted where they are known, hold on other draws, and stay with the detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regionclip.data.annotations.truth import load_truth
from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file, write_json
from regionclip.inference import RegionCLIP
from regionclip.inference import calibration as module
from regionclip.inference.calibration import Calibration, Judged, calibration_error, check, fit, judge


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


def test_one_detection_is_right_for_one_object() -> None:
    """The second on an object, another class, and too little overlap are wrong."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
    truth, classes = np.array([[0, 0, 10, 10], [55, 0, 65, 10]], np.float32), np.array([1, 1])
    assert module._right(boxes, np.array([1, 1, 0, 1]), truth, classes).tolist() == [True, False, False, False]


def test_detector_is_judged_and_keeps_its_calibration(workspace: Path, tmp_path: Path, monkeypatch) -> None:
    """What is judged is what `detect` gives; a bundle has its curve; that of another detector is not used."""
    monkeypatch.chdir(workspace)
    model = RegionCLIP.open()
    truth = read_json(workspace / "data/sets/coco/annotations/val.json")
    seen = model("data/sets/coco/val/1.png", ["star", "fish", "crown", "red circle"], threshold=module.FLOOR)[:4]
    truth["annotations"] = [
        {"id": place, "image_id": 1, "category_id": 1 + int(label), "area": 1.0, "iscrowd": 0,
         "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]}
        for place, (label, (x1, y1, x2, y2)) in enumerate(zip(seen.labels, seen.boxes, strict=True), 1)
    ]  # fmt: skip
    write_json(tmp_path / "truth.json", truth)
    found = judge(model, load_truth(tmp_path / "truth.json"), workspace / "data/sets/coco/val", ["star", "fish"])
    assert found.right.sum() == len(seen) and (found.absent & found.right).sum() == 0
    pairs = {1 + int(label) for label in seen.labels}
    assert sum(found.chances) == 12 - len(pairs)
    digest = sha256_file(model.files.detector)
    made = fit(found, ["star", "fish"], digest, "t")
    made.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == made
    RegionCLIP(replace(model.files, calibration=tmp_path / "c.json")).export(tmp_path / "bundle")
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
