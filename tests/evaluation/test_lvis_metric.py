"""LVIS metrics of boxes and masks: hand-computed federated cases and values frozen from the LVIS API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.data.annotations.annotation_files import sort_records
from regionclip.data.annotations.masks import encode_masks
from regionclip.data.annotations.truth import load_truth, truth_of
from regionclip.errors import InputError
from regionclip.evaluation import lvis
from regionclip.evaluation.average_precision import AREAS
from regionclip.evaluation.detections import read_detections

REFERENCE = json.loads((Path(__file__).parent / "lvis_reference.json").read_text())
BOX = [0.0, 0.0, 10.0, 10.0]


def write(path: Path, truth: dict[str, Any]) -> Path:
    path.write_text(json.dumps(truth))
    return path


def evaluate_lvis(path: Path, given: Any, *rest: Any, iou_type: str = "bbox", **options: Any) -> dict[str, Any]:
    """Read a truth and detections in any form, as a user does, and measure them."""
    masks = iou_type == "segm"
    truth = load_truth(path, lvis=True, masks=masks)
    return lvis.evaluate_lvis(truth, read_detections(given, truth), *rest, iou_type=iou_type, **options)


def found(image: int, category: int, score: float, box: list[float] | None = None) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box or BOX, "score": score}


@pytest.fixture
def truth() -> dict[str, Any]:
    """Rare 1 is in image 1, common 2 in image 2, frequent 3 nowhere; nothing is known of image 3."""
    return {
        "images": [{"id": i, "neg_category_ids": [], "not_exhaustive_category_ids": []} for i in (1, 2, 3)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": BOX},
        ],
        "categories": [
            {"id": i, "name": name, "frequency": letter}
            for i, name, letter in ((1, "red_star", "r"), (2, "moon", "c"), (3, "ring", "f"))
        ],
    }


def test_false_alarms_count_only_where_the_class_is_known_absent(truth: dict[str, Any], tmp_path: Path) -> None:
    """The false alarm outranks the hit: precision 1/2 at every recall if it counts, 1 if it is dropped."""
    detections = [found(3, 1, 0.9), found(1, 1, 0.8)]
    result = evaluate_lvis(write(tmp_path / "a.json", truth), detections)
    assert (result["apr"], result["detections_unlabelled"]) == (pytest.approx(1.0), 1)
    truth["images"][2]["neg_category_ids"] = [1]
    result = evaluate_lvis(write(tmp_path / "b.json", truth), detections)
    assert (result["apr"], result["detections_unlabelled"]) == (pytest.approx(0.5), 0)


def test_unmatched_detections_are_ignored_where_not_exhaustive(truth: dict[str, Any], tmp_path: Path) -> None:
    """A second box in image 1 is a false alarm, unless image 1 is not exhaustively annotated for the class."""
    detections = [found(1, 1, 0.9, [50.0, 50.0, 10.0, 10.0]), found(1, 1, 0.8)]
    assert evaluate_lvis(write(tmp_path / "a.json", truth), detections)["apr"] == pytest.approx(0.5)
    truth["images"][0]["not_exhaustive_category_ids"] = [1]
    assert evaluate_lvis(write(tmp_path / "b.json", truth), detections)["apr"] == pytest.approx(1.0)


def test_the_limit_is_by_image_whatever_the_class(truth: dict[str, Any], tmp_path: Path) -> None:
    detections = [found(1, 3, 0.9), found(1, 1, 0.8)]
    path = write(tmp_path / "a.json", truth)
    limited = evaluate_lvis(path, detections, max_detections=1)
    assert (limited["apr"], limited["detections_over_limit"]) == (0.0, 1)
    assert evaluate_lvis(path, detections, max_detections=2)["apr"] == pytest.approx(1.0)


def test_means_by_frequency_and_classes_without_objects(truth: dict[str, Any], tmp_path: Path) -> None:
    """Rare: exact hit, AP 1. Common: IoU 0.62, a hit at 3 of 10 thresholds. Frequent: no object, no value."""
    detections = [found(1, 1, 0.8), found(2, 2, 0.7, [0.0, 0.0, 6.2, 10.0])]
    result = evaluate_lvis(write(tmp_path / "a.json", truth), detections)
    assert [result[key] for key in ("ap", "ap50", "apr", "apc", "apf")] == [
        *map(pytest.approx, (0.65, 1.0, 1.0, 0.3)),
        None,
    ]
    assert result["per_class"] == pytest.approx({"red star": 1.0, "moon": 0.3})
    assert result["no_ground_truth"] == ["ring"]


def test_the_official_loader_leaves_out_images_without_annotations(truth: dict[str, Any], tmp_path: Path) -> None:
    """Image 3 has no annotation, but is known to hold no rare 1: its false alarm counts for LVIS, not for the official
    loader. The one in image 2, which has an annotation, counts for both: precision 1/3 against 1/2."""
    truth["images"][1]["neg_category_ids"] = truth["images"][2]["neg_category_ids"] = [1]
    path = write(tmp_path / "a.json", truth)
    detections = [found(3, 1, 0.9), found(2, 1, 0.85), found(1, 1, 0.8)]
    whole, official = (evaluate_lvis(path, detections, images=images) for images in ("all", "labelled"))
    assert (whole["apr"], official["apr"]) == (pytest.approx(1 / 3), pytest.approx(1 / 2))
    assert (whole["detections_left_out"], official["detections_left_out"]) == (0, 1)
    assert "official loader" in official["protocol"] and "official loader" not in whole["protocol"]


def test_an_unknown_choice_of_images_is_refused(truth: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="key 'images': 'minival' is not known"):
        evaluate_lvis(write(tmp_path / "a.json", truth), [], images="minival")


def test_images_beyond_the_official_loaders_limit_are_counted(truth: dict[str, Any], tmp_path: Path) -> None:
    truth["annotations"] = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [number, 0, 1, 1]} for number in range(1, 502)
    ]
    assert evaluate_lvis(write(tmp_path / "a.json", truth), [])["images_over_loader_limit"] == 1
    truth["annotations"].pop()
    assert evaluate_lvis(write(tmp_path / "b.json", truth), [])["images_over_loader_limit"] == 0


def with_masks(truth: dict[str, Any]) -> dict[str, Any]:
    for image in truth["images"]:
        image |= {"height": 20, "width": 20}
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        annotation["area"] = width * height
    return truth


def mask(rows: int) -> dict[str, Any]:
    pixels = np.zeros((1, 20, 20), bool)
    pixels[0, :rows, :10] = True
    return {"segmentation": encode_masks(pixels)[0]}


def test_masks_by_frequency(truth: dict[str, Any], tmp_path: Path) -> None:
    """All boxes are right. Rare: the mask too. Common: it has 6 of 10 rows, IoU 0.6, a hit at 3 of 10 thresholds."""
    path = write(tmp_path / "a.json", with_masks(truth))
    detections = [found(1, 1, 0.8) | mask(10), found(2, 2, 0.7) | mask(6)]
    boxes, masks = (evaluate_lvis(path, detections, iou_type=kind) for kind in ("bbox", "segm"))
    keys = ("ap", "ap50", "apr", "apc", "apf")
    assert [boxes[key] for key in keys] == [*map(pytest.approx, (1.0, 1.0, 1.0, 1.0)), None]
    assert [masks[key] for key in keys] == [*map(pytest.approx, (0.65, 1.0, 1.0, 0.3)), None]
    assert boxes["protocol"].startswith("LVIS box AP") and masks["protocol"].startswith("LVIS mask AP")


def test_federated_rules_hold_for_masks(truth: dict[str, Any], tmp_path: Path) -> None:
    """A false alarm outranks the hit: it counts where the class is negative, not where nothing is known, and not where
    the annotation is not exhaustive."""
    with_masks(truth)
    detections = [found(3, 1, 0.9) | mask(10), found(1, 1, 0.8) | mask(10)]

    def apr() -> float:
        return evaluate_lvis(write(tmp_path / "a.json", truth), detections, iou_type="segm")["apr"]

    assert apr() == pytest.approx(1.0)
    truth["images"][2]["neg_category_ids"] = [1]
    assert apr() == pytest.approx(0.5)
    truth["images"][2]["not_exhaustive_category_ids"] = [1]
    assert apr() == pytest.approx(1.0)


@pytest.mark.parametrize("case", REFERENCE["cases"])
def test_masks_that_fill_their_boxes_equal_the_lvis_api(case: dict[str, Any], tmp_path: Path) -> None:
    """The frozen worlds have integer boxes, so that masks of the whole box have the boxes' overlaps."""
    detections = [result | _filled(result["bbox"]) for result in _results(case)]
    truth = case["truth"] | {
        "images": [image | {"width": 110, "height": 110} for image in case["truth"]["images"]],
        "annotations": [item | _filled(item["bbox"]) for item in case["truth"]["annotations"]],
    }
    result = evaluate_lvis(write(tmp_path / "a.json", truth), detections, case["max_detections"], iou_type="segm")
    for key, wanted in case["expected"].items():
        got = -1 if result[key] is None else result[key]
        assert got == pytest.approx(wanted, abs=1e-6), key


def _results(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The frozen rows, image id, box, score and category id, as COCO's results."""
    return [found(int(row[0]), int(row[6]), row[5], row[1:5]) for row in case["detections"]]


def _filled(box: list[float]) -> dict[str, Any]:
    """Moved by 5 pixels, as some boxes begin at -5."""
    x, y, width, height = map(int, box)
    pixels = np.zeros((1, 110, 110), bool)
    pixels[0, y + 5 : y + 5 + height, x + 5 : x + 5 + width] = True
    return {"segmentation": encode_masks(pixels)[0]}


def test_no_detections_give_zeros(truth: dict[str, Any], tmp_path: Path) -> None:
    result = evaluate_lvis(write(tmp_path / "a.json", truth), [])
    assert (result["ap"], result["apr"], result["apc"], result["detections"]) == (0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize("case", REFERENCE["cases"])
def test_equals_the_lvis_api(case: dict[str, Any], tmp_path: Path) -> None:
    """Random worlds measured with lvis 0.5.3; -1 there is None here."""
    result = evaluate_lvis(write(tmp_path / "a.json", case["truth"]), _results(case), case["max_detections"])
    for key, wanted in case["expected"].items():
        got = -1 if result[key] is None else result[key]
        assert got == pytest.approx(wanted, abs=1e-6), key


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_equals_another_implementation_on_random_sets(seed: int) -> None:
    """faster-coco-eval's LVIS style, class by class and at every threshold; scores have many ties."""
    rng = np.random.default_rng(seed)
    images, classes = (range(1, int(rng.integers(2, most))) for most in (6, 5))

    def some(keys: range, most: int) -> list[int]:
        return rng.permutation(keys)[: rng.integers(0, most)].tolist()

    def boxes(most: int) -> list[dict[str, Any]]:
        count = rng.integers(0, most)
        columns = (rng.choice(images, count), rng.choice(classes, count), rng.integers([0, 0, 8, 8], 130, (count, 4)))
        keys = ("image_id", "category_id", "bbox")
        return [dict(zip(keys, row, strict=True)) for row in zip(*(part.tolist() for part in columns), strict=True)]

    annotations = [
        {"id": i, "area": item["bbox"][2] * item["bbox"][3], **item} for i, item in enumerate(boxes(15), start=1)
    ]
    there = {(item["image_id"], item["category_id"]) for item in annotations}
    content = {
        "images": [
            {
                "id": i,
                "neg_category_ids": [key for key in some(classes, 3) if (i, key) not in there],
                "not_exhaustive_category_ids": [key for key in some(classes, 3) if (i, key) in there],
            }
            for i in images
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"c{i}", "frequency": "rcf"[i % 3]} for i in classes],
    }
    near = [
        {**item, "bbox": np.maximum(item["bbox"] + rng.integers(-6, 7, 4), 0).tolist()}
        for item in rng.permutation(annotations)[:10]
    ]
    keys = ("image_id", "category_id", "bbox")
    results = [{key: item[key] for key in keys} | {"score": int(rng.integers(1, 6)) / 5} for item in near + boxes(30)]
    truth = truth_of(sort_records(content, Path("truth.json"), "lvis", ()), lvis=True)
    measured = lvis.evaluate_lvis(truth, read_detections(results, truth))
    wanted = _by_faster_coco_eval(content, results)
    for column, name in enumerate(truth.names):
        valid = wanted[:, :, column, 0]
        assert measured["per_class"].get(name, -1) == pytest.approx(valid.mean(), abs=1e-6)
        assert measured["per_class_ap50"].get(name, -1) == pytest.approx(valid[0].mean(), abs=1e-6)
    for area, key in enumerate(("ap", "aps", "apm", "apl")):
        valid = wanted[..., area][wanted[..., area] > -1]
        assert measured[key] == (pytest.approx(valid.mean(), abs=1e-6) if valid.size else None)


def _by_faster_coco_eval(content: dict[str, Any], results: list[dict[str, Any]]) -> np.ndarray:
    truth = content | {"annotations": [item | {"iscrowd": 0} for item in content["annotations"]]}
    found = [
        item | {"id": number, "area": item["bbox"][2] * item["bbox"][3], "iscrowd": 0}
        for number, item in enumerate(results, start=1)
    ]
    evaluator = COCOeval_faster(COCO(truth), COCO(truth | {"annotations": found}), "bbox", lvis_style=True)
    evaluator.params.maxDets = [300]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [list(area) for area in AREAS.values()], list(AREAS)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval["precision"][..., 0]


def test_the_frozen_worlds_use_every_federated_rule(tmp_path: Path) -> None:
    unlabelled = over = changed = 0
    for case in REFERENCE["cases"]:
        truth, limit = json.loads(json.dumps(case["truth"])), case["max_detections"]
        result = evaluate_lvis(write(tmp_path / "a.json", truth), _results(case), limit)
        for image in truth["images"]:
            image["not_exhaustive_category_ids"] = []
        exhaustive = evaluate_lvis(write(tmp_path / "b.json", truth), _results(case), limit)
        unlabelled += result["detections_unlabelled"]
        over += result["detections_over_limit"]
        changed += result["ap"] != exhaustive["ap"]
    assert unlabelled > 10 and over > 5 and changed >= 3


@pytest.mark.parametrize(
    ("part", "key"),
    [("images", "neg_category_ids"), ("images", "not_exhaustive_category_ids"), ("categories", "frequency")],
)
def test_a_file_without_a_federated_key_is_refused(truth: dict[str, Any], tmp_path: Path, part: str, key: str) -> None:
    del truth[part][1][key]
    with pytest.raises(InputError, match=rf"a\.json.*{key}"):
        evaluate_lvis(write(tmp_path / "a.json", truth), [])


def test_an_unknown_frequency_is_refused(truth: dict[str, Any], tmp_path: Path) -> None:
    truth["categories"][0]["frequency"] = "rare"
    with pytest.raises(InputError, match="'rare' is not r, c or f"):
        evaluate_lvis(write(tmp_path / "a.json", truth), [])
