"""The precision table equals that of pycocotools, for boxes and for masks, entry by entry."""

from __future__ import annotations

import contextlib
import copy
import io
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from regionclip.data.annotations.annotation_files import sort_records
from regionclip.data.annotations.truth import BoxArrays, Truth, truth_of
from regionclip.errors import InputError
from regionclip.evaluation import average_precision
from regionclip.evaluation.average_precision import AREAS, IouType, mean_precisions
from regionclip.evaluation.detections import read_detections

SIDE = 200
CATEGORIES = [{"id": 3 * i + 1, "name": f"c{i}"} for i in range(4)]
IMAGES = [{"id": 10 + 7 * i, "height": SIDE, "width": SIDE} for i in range(4)]
IMAGE_IDS, CATEGORY_IDS = [image["id"] for image in IMAGES], [category["id"] for category in CATEGORIES]

# Sides around COCO's limits of areas, 32 and 96, and a few free ones.
SIDES = st.one_of(st.sampled_from([31, 32, 33, 95, 96, 97]), st.integers(1, 120))
BOXES = st.builds(lambda x, y, w, h: [x, y, w, h], st.integers(0, 70), st.integers(0, 70), SIDES, SIDES)
OBJECTS = st.fixed_dictionaries(
    {
        # The last image stays empty and the last class has no object, unless detections come.
        "image_id": st.sampled_from(IMAGE_IDS[:3]),
        "category_id": st.sampled_from(CATEGORY_IDS[:3]),
        "bbox": BOXES,
        "iscrowd": st.sampled_from([0, 0, 0, 1]),
        "triangle": st.booleans(),
    }
)
FOUND = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from(IMAGE_IDS),
        "category_id": st.sampled_from(CATEGORY_IDS),
        "bbox": BOXES,
        "score": st.integers(1, 5).map(lambda tenths: tenths / 10),  # few values, so many ties
        "triangle": st.booleans(),
        "near": st.none() | st.tuples(st.integers(0, 9), st.integers(-6, 6)),
    }
)


def outline(box: list[float], triangle: bool) -> list[list[float]]:
    x, y, width, height = box
    corners = [x, y, x + width, y, x + width, y + height]
    return [corners if triangle else [*corners, x, y + height]]


def rle(polygons: list[list[float]], *, text: bool = True) -> dict[str, Any]:
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, SIDE, SIDE))
    return {**merged, "counts": merged["counts"].decode()} if text else merged


def uncompressed(polygons: list[list[float]]) -> dict[str, Any]:
    """The form in which COCO writes crowds: counts of runs, as numbers."""
    pixels = coco_mask.decode(rle(polygons, text=False)).flatten(order="F")
    ends = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *ends, pixels.size]).tolist()
    return {"size": [SIDE, SIDE], "counts": ([0] if pixels[0] else []) + runs}


def world(objects: list[dict[str, Any]], found: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    annotations = []
    for number, item in enumerate(objects, start=1):
        polygons = outline(item["bbox"], item["triangle"])
        area = float(coco_mask.area(rle(polygons)))
        mask = uncompressed(polygons) if item["iscrowd"] else polygons
        annotations.append({**item, "id": number, "area": area, "segmentation": mask})
    detections = []
    for item in found:
        if item["near"] and objects:
            near = objects[item["near"][0] % len(objects)]
            x, y, width, height = near["bbox"]
            item = {**near, "score": item["score"], "bbox": [x, max(y + item["near"][1], 0), width, height]}
        detections.append(
            {key: item[key] for key in ("image_id", "category_id", "bbox", "score")}
            | {"segmentation": rle(outline(item["bbox"], item["triangle"]))}
        )
    return {"images": IMAGES, "categories": CATEGORIES, "annotations": annotations}, detections


def precision_table(
    content: dict[str, Any], detections: list[dict[str, Any]], most: int, *, iou_type: IouType = "bbox"
) -> np.ndarray:
    truth = truth_of(sort_records(content, Path("truth.json"), "coco", {"size"}), masks=iou_type == "segm")
    return average_precision.precision_table(truth, read_detections(detections, truth), most, iou_type=iou_type)


def reference(truth: dict[str, Any], detections: list[dict[str, Any]], most: int, iou_type: str) -> np.ndarray:
    keys = ("image_id", "category_id", "score", "bbox" if iou_type == "bbox" else "segmentation")
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = copy.deepcopy(truth)
        api.createIndex()
        results = api.loadRes([{key: copy.deepcopy(item[key]) for key in keys} for item in detections])
        evaluator = COCOeval(api, results, iou_type)
        evaluator.params.maxDets = [most]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][..., 0]


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@settings(max_examples=120)
@given(
    objects=st.lists(OBJECTS, max_size=10),
    found=st.lists(FOUND, min_size=1, max_size=12),
    copies=st.sampled_from([1, 1, 1, 15]),
    most=st.sampled_from([100, 100, 2]),
    share=st.sampled_from([1000, 1, 7]),
)
def test_equals_pycocotools(
    iou_type: IouType, objects: list[dict[str, Any]], found: list[dict[str, Any]], copies: int, most: int, share: int
) -> None:
    """Crowds, ties, empty images, areas on the limits, classes without objects, more than 100 detections; pairs of
    boxes and groups of masks all at once, one by one, and a few at a time."""
    truth, detections = world(objects, found * copies)
    with mock.patch.multiple(average_precision, _PAIRS=share, _GROUPS=share):
        table = precision_table(truth, detections, most, iou_type=iou_type)
    np.testing.assert_allclose(table, reference(truth, detections, most, iou_type), rtol=0, atol=1e-6)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("hit", [99, 100])
def test_the_hundred_and_first_detection_of_an_image_and_class_is_not_seen(iou_type: IouType, hit: int) -> None:
    """One object, 130 detections of its class in its image; the only hit is the 100th or the 101st."""
    thing = {"image_id": 10, "category_id": 1, "bbox": [5, 5, 40, 40], "iscrowd": 0, "triangle": False}
    away = {**thing, "bbox": [120, 120, 40, 40], "near": None}
    found = [{**away, "score": 1 - rank / 1000} for rank in range(130)]
    found[hit]["bbox"] = thing["bbox"]
    truth, detections = world([thing], found)
    table = precision_table(truth, detections, 100, iou_type=iou_type)
    np.testing.assert_allclose(table, reference(truth, detections, 100, iou_type), rtol=0, atol=1e-6)
    assert table[0, 0, 0, 0] == pytest.approx(0.01 if hit == 99 else 0.0)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_detections_inside_a_crowd_are_ignored(iou_type: IouType) -> None:
    """Two detections inside the crowd outrank the hit; precision stays 1. Without the crowd it is 1/3."""
    thing = {"image_id": 10, "category_id": 1, "bbox": [5, 5, 40, 40], "iscrowd": 0, "triangle": False}
    crowd = {**thing, "bbox": [80, 80, 100, 100], "iscrowd": 1}
    inside = [{**thing, "bbox": [90 + shift, 90, 20, 20], "score": 0.9, "near": None} for shift in (0, 30)]
    found = [*inside, {**thing, "score": 0.5, "near": None}]
    for objects, precision in (([thing, crowd], 1.0), ([thing], 1 / 3)):
        truth, detections = world(objects, found)
        table = precision_table(truth, detections, 100, iou_type=iou_type)
        np.testing.assert_allclose(table, reference(truth, detections, 100, iou_type), rtol=0, atol=1e-6)
        assert table[0, 0, 0, 0] == pytest.approx(precision)


def test_of_objects_overlapped_alike_the_last_is_taken() -> None:
    """The first detection lies as near to both objects and takes the last, which the second needs: one of two found."""
    thing = {"image_id": 10, "category_id": 1, "iscrowd": 0, "triangle": False, "near": None}
    objects, found = ([thing | {"bbox": [x, 0, 40, 40]} for x in places] for places in ((0, 10), (5, 20)))
    truth, detections = world(objects, [item | {"score": 0.9 - place / 10} for place, item in enumerate(found)])
    table = precision_table(truth, detections, 100)
    np.testing.assert_allclose(table, reference(truth, detections, 100, "bbox"), rtol=0, atol=1e-6)
    assert (table[0, :, 0, 0] > 0).sum() == 51  # recalls up to 1/2


@pytest.mark.parametrize("count", [3, 20, 50, 100])
def test_a_recall_is_reached_by_the_hit_that_pycocotools_says(count: int) -> None:
    """Hits and false alarms take turns, so that each further hit has another precision; recalls are quotients that
    floats round."""
    thing = {"image_id": 10, "category_id": 1, "iscrowd": 0, "triangle": False, "near": None}
    hits = [{**thing, "bbox": [i % 25 * 7, i // 25 * 7, 6, 6]} for i in range(count)]
    found = [item for hit in hits for item in (hit, {**thing, "image_id": 17, "bbox": [0, 0, 6, 6]})]
    truth, detections = world(hits, [item | {"score": 1 - place / 1000} for place, item in enumerate(found)])
    table = precision_table(truth, detections, 100)
    np.testing.assert_allclose(table, reference(truth, detections, 100, "bbox"), rtol=0, atol=1e-6)


@given(arrays(float, (6, 4), elements=st.floats(0, 60)), arrays(float, (7, 4), elements=st.floats(0, 60)))
def test_overlaps_are_those_of_pycocotools_to_the_last_bit(found: np.ndarray, true: np.ndarray) -> None:
    crowds = np.arange(len(true)) < 3
    ious = np.zeros((len(found), len(true)))
    pairs = average_precision.box_overlaps(found, np.zeros(len(found), int), true, np.zeros(len(true), int), crowds)
    for rows, objects, values in pairs:
        ious[rows, objects] = values
    wanted = coco_mask.iou(found, true, crowds.tolist())
    np.testing.assert_array_equal(ious, np.where(wanted >= 0.5, wanted, 0))


def test_masks_and_boxes_are_measured_apart() -> None:
    """A triangle found as its box: right as a box at every threshold; as a mask its IoU is just below 1/2, so wrong."""
    thing = {"image_id": 10, "category_id": 1, "bbox": [10, 10, 100, 100], "iscrowd": 0, "triangle": True}
    truth, detections = world([thing], [{**thing, "triangle": False, "score": 0.9, "near": None}])
    overlap = coco_mask.iou([detections[0]["segmentation"]], [rle(outline(thing["bbox"], True))], [0]).item()
    assert 0.49 < overlap < 0.5
    means = {kind: mean_precisions(precision_table(truth, detections, 100, iou_type=kind)) for kind in ("bbox", "segm")}
    assert (means["bbox"]["ap"], means["bbox"]["ap50"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (means["segm"]["ap"], means["segm"]["ap50"]) == (0.0, 0.0)


def test_areas_sort_objects_and_unmatched_detections() -> None:
    """A small object is found and a large one not; a false alarm of medium size hurts neither of them."""
    small = {"image_id": 10, "category_id": 1, "bbox": [0, 0, 20, 20], "iscrowd": 0, "triangle": False}
    large = {**small, "bbox": [60, 60, 110, 110]}
    alarm = {**small, "image_id": 17, "bbox": [0, 0, 50, 50], "score": 0.9, "near": None}
    truth, detections = world([small, large], [{**small, "score": 0.5, "near": None}, alarm])
    means = mean_precisions(precision_table(truth, detections, 100))
    assert (means["aps"], means["apm"], means["apl"]) == (pytest.approx(1.0), None, 0.0)
    half = 51 * 0.5 / 101  # recall reaches 0.5, at precision 1/2
    assert (means["ap"], means["ap50"], means["ap75"]) == (*map(pytest.approx, (half, half, half)),)


def test_memory_does_not_grow_with_the_pairs() -> None:
    """2,000 images with 100 objects and 100 detections of one class: 20 million pairs, 8 bytes for each number of one.
    All at once they would take 2 GB; a process's own peak tells, as that of this one may be higher already."""
    with get_context("spawn").Pool(1) as pool:
        ap50, mebibytes = pool.apply(_crowded_table)
    assert ap50 == pytest.approx(1.0)
    assert mebibytes < 500


def _crowded_table() -> tuple[float, float]:
    images, side = 2000, 10
    corners = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * 18.0
    boxes = np.tile(np.concatenate([corners, np.full((side * side, 2), 16.0)], axis=1), (images, 1))
    many = len(boxes)
    objects = BoxArrays(
        image_ids=np.repeat(np.arange(images), side * side),
        category_ids=np.ones(many, np.int64),
        boxes=boxes,
        areas=np.full(many, 256.0),
        scores=np.ones(many),
        crowds=np.zeros(many, bool),
        places=np.arange(many),
    )
    truth = Truth(Path("truth.json"), [{"id": i} for i in range(images)], [{"id": 1, "name": "tile"}], objects)
    before = _peak()
    table = average_precision.precision_table(truth, objects, 100)
    return mean_precisions(table)["ap50"], _peak() - before


def _peak() -> float:
    """Return this process's largest RSS in MiB; `getrusage` would count the one that it was started from."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def test_no_detections_and_no_objects() -> None:
    thing = {"image_id": 10, "category_id": 1, "bbox": [0, 0, 20, 20], "iscrowd": 0, "triangle": False}
    truth, _ = world([thing], [])
    for iou_type in ("bbox", "segm"):
        table = precision_table(truth, [], 100, iou_type=iou_type)
        assert table.shape == (10, 101, 4, len(AREAS))
        assert (table[:, :, 0, 0] == 0).all() and (table[:, :, 1:] == -1).all()


def test_a_truth_without_classes_is_refused() -> None:
    with pytest.raises(InputError, match="no class to evaluate"):
        precision_table({"images": IMAGES, "categories": [], "annotations": []}, [], 100)
