"""COCO metrics: hand-computed values of the three protocols, equality with pycocotools, and refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from regionclip.data.annotations.masks import encode_masks
from regionclip.data.annotations.truth import load_truth
from regionclip.errors import InputError
from regionclip.evaluation import coco
from regionclip.evaluation.detections import read_detections


@dataclass
class Split:
    base_names: Sequence[str]
    novel_names: Sequence[str]


def measured(
    evaluate: Any, path: Path, given: Any, *rest: Any, iou_type: str = "bbox", **options: Any
) -> dict[str, Any]:
    """Read a truth and detections in any form, as a user does, and measure them."""
    masks = iou_type == "segm"
    truth = load_truth(path, masks=masks)
    return evaluate(truth, read_detections(given, truth), *rest, iou_type=iou_type, **options)


evaluate_coco = partial(measured, coco.evaluate_coco)


def write_truth(
    path: Path, boxes: list[tuple[int, int, list[float]]], names: Sequence[str], images: Sequence[int]
) -> Path:
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (image, category, box) in enumerate(
            boxes
        )  # starts at 0: an id that naive matching takes for "unmatched"
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    path.write_text(
        json.dumps({"images": [{"id": i} for i in images], "annotations": annotations, "categories": categories})
    )
    return path


def found(image: int, category: int, box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


@pytest.fixture
def two_stars_one_moon(tmp_path: Path) -> Path:
    boxes = [(1, 1, [0, 0, 10, 10]), (1, 1, [50, 50, 10, 10]), (2, 2, [0, 0, 100, 100])]
    return write_truth(tmp_path / "truth.json", boxes, ["star", "moon", "ring"], [1, 2, 3])


def test_hand_computed_ap(two_stars_one_moon: Path) -> None:
    """Star: hit, false alarm, hit -> precision 1 up to recall 0.5, then 2/3: AP = (51 + 50 * 2/3) / 101.
    Moon: one box of IoU 0.62, a hit at 3 of 10 thresholds: AP50 = 1, AP = 0.3."""
    detections = [
        found(1, 1, [0, 0, 10, 10], 0.9),
        found(3, 1, [0, 0, 10, 10], 0.8),
        found(1, 1, [50, 50, 10, 10], 0.7),
        found(2, 2, [0, 0, 62, 100], 0.5),
    ]
    result = evaluate_coco(two_stars_one_moon, detections, Split(["star"], ["moon", "ring"]))
    star = (51 + 50 * 2 / 3) / 101
    assert result["ap50_base"] == pytest.approx(star)
    assert result["ap50_novel"] == pytest.approx(1.0)
    assert result["ap50"] == result["ap50_all"] == pytest.approx((star + 1) / 2)
    assert result["ap"] == pytest.approx((star + 0.3) / 2)
    assert result["per_class"] == pytest.approx({"star": star, "moon": 1.0})
    assert result["no_ground_truth"] == ["ring"]


def test_no_detections_give_zeros_and_no_objects_give_none(two_stars_one_moon: Path) -> None:
    result = evaluate_coco(two_stars_one_moon, [], Split(["star", "moon"], ["ring"]))
    assert (result["ap"], result["ap50_base"], result["ap50_novel"]) == (0.0, 0.0, None)
    assert result["per_class"] == {"star": 0.0, "moon": 0.0}


def test_only_the_best_detections_of_a_class_count(two_stars_one_moon: Path) -> None:
    detections = [found(1, 1, [80, 80, 5, 5], 0.9), found(1, 1, [0, 0, 10, 10], 0.8)]
    split = Split(["star"], ["moon", "ring"])
    assert evaluate_coco(two_stars_one_moon, detections, split, max_detections=1)["ap50_base"] == 0.0
    assert evaluate_coco(two_stars_one_moon, detections, split, max_detections=2)["ap50_base"] > 0.2


def test_files_and_dicts_give_the_same(two_stars_one_moon: Path, tmp_path: Path) -> None:
    split = Split(["star"], ["moon", "ring"])
    dicts = [found(1, 1, [0, 0, 10, 10], 0.9)]
    file = tmp_path / "found.json"
    file.write_text(json.dumps(dicts))
    results = [evaluate_coco(two_stars_one_moon, given, split) for given in (dicts, file)]
    assert results[0] == results[1]
    assert dicts == [found(1, 1, [0, 0, 10, 10], 0.9)], "the caller's dicts were changed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "no image 77"),
        ({"category_id": 77}, "no category 77"),
        ({"score": float("nan")}, "not finite"),
        ({"bbox": [0, 0, -1, 5]}, "no size"),
    ],
)
def test_detections_that_do_not_fit_are_refused(two_stars_one_moon: Path, change: dict[str, Any], message: str) -> None:
    good = found(1, 1, [0, 0, 10, 10], 0.9)
    with pytest.raises(InputError, match=f"detection 1.*{message}"):
        evaluate_coco(two_stars_one_moon, [good, good | change], Split(["star"], ["moon", "ring"]))


def test_a_class_list_of_another_file_is_refused(two_stars_one_moon: Path) -> None:
    with pytest.raises(InputError, match="differ in: arrow, ring"):
        evaluate_coco(two_stars_one_moon, [], Split(["star"], ["moon", "arrow"]))
    with pytest.raises(InputError, match="differ in: ring"):
        evaluate_coco(two_stars_one_moon, [], Split(["star", "ring"], ["moon", "ring"]))


def test_constrained_drops_classes_and_images(two_stars_one_moon: Path) -> None:
    """Novel is the moon of image 2. A false moon in image 1, which has no moon, costs half the precision in the
    generalised protocol, and nothing in the constrained one, where that image is dropped."""
    detections = [found(1, 2, [70, 70, 9, 9], 0.9), found(2, 2, [0, 0, 100, 100], 0.5)]
    split = Split(["star", "ring"], ["moon"])
    assert evaluate_coco(two_stars_one_moon, detections, split)["ap50_novel"] == pytest.approx(0.5)
    result = evaluate_coco(two_stars_one_moon, detections, split, group="novel")
    assert result["ap50"] == result["ap"] == pytest.approx(1.0)
    assert (result["detections"], result["detections_left_out"], result["images_dropped"]) == (2, 1, 2)
    assert result["per_class"] == {"moon": pytest.approx(1.0)}


def test_constrained_refuses_a_wider_vocabulary(two_stars_one_moon: Path) -> None:
    """A detection of a star among novel classes shows that the model's vocabulary was not constrained."""
    with pytest.raises(InputError, match="detection 0.*no category 1"):
        evaluate_coco(two_stars_one_moon, [found(1, 1, [0, 0, 9, 9], 0.9)], Split([], ["moon"]), group="novel")
    with pytest.raises(InputError, match="differ in: arrow"):
        evaluate_coco(two_stars_one_moon, [], Split([], ["moon", "arrow"]), group="novel")


def test_a_crowd_keeps_its_image_in_the_constrained_truth(tmp_path: Path) -> None:
    path = write_truth(tmp_path / "t.json", [(1, 1, [0, 0, 9, 9]), (2, 1, [0, 0, 9, 9])], ["star"], [1, 2, 3])
    truth = json.loads(path.read_text())
    truth["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(truth))
    result = evaluate_coco(path, [found(2, 1, [0, 0, 9, 9], 0.9)], Split(["star"], []), group="base")
    assert (result["images_dropped"], result["detections_left_out"]) == (1, 0)


def test_closed_set_measures_by_area(tmp_path: Path) -> None:
    """Found: the small star (at IoU 0.8, so at 7 of 10 thresholds). Not found: the large moon. None is medium."""
    boxes = [(1, 1, [0, 0, 30, 30]), (1, 2, [0, 0, 200, 100])]
    path = write_truth(tmp_path / "t.json", boxes, ["star", "moon"], [1])
    result = evaluate_coco(path, [found(1, 1, [0, 0, 24, 30], 0.9)], Split(["star", "moon"], []))
    keys = ("ap", "ap50", "ap75", "aps", "apm", "apl")
    assert [result[key] for key in keys] == [*map(pytest.approx, (0.35, 0.5, 0.5, 0.7)), None, 0.0]


def test_masks_are_measured_as_masks(tmp_path: Path) -> None:
    """The detection's box is the object's; its mask covers 6 of 10 rows: a hit at 3 of 10 thresholds."""
    path = write_truth(tmp_path / "t.json", [(1, 1, [0, 0, 10, 10])], ["star"], [1])
    truth = json.loads(path.read_text())
    truth["images"][0] |= {"height": 20, "width": 20}
    truth["annotations"][0]["segmentation"] = [[0, 0, 10, 0, 10, 10, 0, 10]]
    path.write_text(json.dumps(truth))
    pixels = np.zeros((1, 20, 20), bool)
    pixels[0, :6, :10] = True
    detections = [found(1, 1, [0, 0, 10, 10], 0.9) | {"segmentation": encode_masks(pixels)[0]}]
    split = Split(["star"], [])
    boxes, masks = (evaluate_coco(path, detections, split, iou_type=kind) for kind in ("bbox", "segm"))
    assert (boxes["ap"], masks["ap"]) == (pytest.approx(1.0), pytest.approx(0.3))
    with pytest.raises(InputError, match="detection 0, key 'segmentation'"):
        evaluate_coco(path, [found(1, 1, [0, 0, 10, 10], 0.9)], split, iou_type="segm")


def test_every_result_names_its_protocol(two_stars_one_moon: Path) -> None:
    def words(result: dict[str, Any]) -> str:
        return result["protocol"].split(",")[1].strip()

    assert words(evaluate_coco(two_stars_one_moon, [], Split(["star", "ring"], ["moon"]))) == (
        "generalised: 3 classes at once (2 base"
    )
    assert words(evaluate_coco(two_stars_one_moon, [], Split(["star", "ring", "moon"], []))) == (
        "closed set: 3 classes at once"
    )
    assert words(evaluate_coco(two_stars_one_moon, [], Split(["star", "ring"], ["moon"]), group="novel")) == (
        "constrained: the 1 novel classes alone"
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("limit", [100, 2])
def test_equals_pycocotools_on_random_worlds(
    tmp_path: Path, seed: int, limit: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Crowds, equal scores, empty images, classes without objects, detections of wrong classes."""
    truth, detections = _random_world(np.random.default_rng(seed))
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    result = evaluate_coco(path, detections, Split(["c0", "c1", "c4"], ["c2", "c3"]), limit)

    api = COCO(str(path))
    reference = COCOeval(api, api.loadRes(detections), "bbox")
    reference.params.maxDets = [1, 2, limit]
    reference.evaluate()
    reference.accumulate()
    precision = reference.eval["precision"][:, :, :, 0, -1]
    wanted = {"ap": precision, "ap50_base": precision[0][:, [0, 1, 4]], "ap50_novel": precision[0][:, [2, 3]]}
    for key, part in wanted.items():
        assert result[key] == pytest.approx(part[part > -1].mean(), abs=1e-6), key
    assert result["ap"] > 0
    capsys.readouterr()


def _random_world(rng: np.random.Generator) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    truth: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3 * i + 1, "name": f"c{i}"} for i in range(5)],
    }
    detections: list[dict[str, Any]] = []
    for image in range(12):
        truth["images"].append({"id": 10 + 7 * image})
        for _ in range(int(rng.integers(0, 6)) if image % 4 else 0):
            box = [*rng.integers(0, 60, 2), *rng.integers(8, 40, 2)]
            category = int(rng.choice([1, 4, 7, 10]))
            annotation = {"id": len(truth["annotations"]) + 1, "image_id": 10 + 7 * image, "category_id": category}
            annotation |= {
                "bbox": [float(v) for v in box],
                "area": float(box[2] * box[3]),
                "iscrowd": int(rng.random() < 0.15),
            }
            truth["annotations"].append(annotation)
            for _ in range(int(rng.integers(0, 4))):
                moved = [float(v) for v in np.maximum(box + rng.integers(-5, 6, 4), 0)]
                named = category if rng.random() < 0.8 else int(rng.choice([1, 4, 7, 10, 13]))
                detections.append(found(10 + 7 * image, named, moved, float(rng.integers(1, 10)) / 10))
        for _ in range(int(rng.integers(0, 3))):
            box = [float(v) for v in (*rng.integers(0, 60, 2), *rng.integers(8, 40, 2))]
            detections.append(
                found(10 + 7 * image, int(rng.choice([1, 4, 7, 10, 13])), box, float(rng.integers(1, 10)) / 10)
            )
    return truth, [detections[i] for i in rng.permutation(len(detections))]
