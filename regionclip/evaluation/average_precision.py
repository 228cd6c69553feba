"""Average precision: faster-coco-eval, counting as COCOeval or as LVISEval does, and means over its table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from regionclip.data.annotations.truth import Truth
from regionclip.errors import InputError
from regionclip.evaluation.masks import mask_area

IouType = Literal["bbox", "segm"]
"""COCO's names of the two overlaps: of boxes, of masks."""

IOU50, IOU75 = slice(0, 1), slice(5, 6)
"""The first and the sixth of COCO's ten IoU thresholds 0.50, 0.55, ... 0.95."""

AREAS = {"all": [0, 1e10], "small": [0, 32**2], "medium": [32**2, 96**2], "large": [96**2, 1e10]}
"""COCO's ranges of an object's area in square pixels, in the order of the table's last axis."""

CLASSES_AT_A_TIME = 50
"""faster-coco-eval keeps a kilobyte for every pair of image and class: all of LVIS at once would take 27 GB."""


def precision_table(
    truth: Truth,
    detections: Sequence[Mapping[str, Any]],
    max_detections: int,
    *,
    iou_type: IouType = "bbox",
    federated: bool = False,
) -> NDArray[np.float64]:
    """Return interpolated precision.

    The area of an object is its ``area``, or its box's where the file has none; that of a detection is its box's, or
    its mask's for ``segm``, as COCOeval counts when results carry no boxes.

    Args:
        truth: What ``load_truth`` returns, with masks for ``segm``.
        detections: COCO result dicts that fit ``truth`` (``read_detections``), with masks for ``segm``.
        max_detections: The most detections that count in an image **for one class**, as COCOeval has it.
        iou_type: Overlap of boxes or of masks.
        federated: LVIS: drop detections of classes that are neither positive nor negative in their image, ignore
            unmatched ones of classes not annotated exhaustively there, and know no crowds.

    Returns:
        (10 IoU thresholds, 101 recall thresholds, K categories by ascending id, 4 ``AREAS``); -1 where a category has
        no object of that area.

    Raises:
        InputError: The truth has no category.
    """
    objects, found = _by_class(truth["annotations"]), _by_class(detections)
    classes = sorted(truth["categories"], key=lambda category: category["id"])
    if not classes:
        raise InputError("there is no class to evaluate", key="categories", mend="give a file with categories")
    tables = []
    for start in range(0, len(classes), CLASSES_AT_A_TIME):
        part = classes[start : start + CLASSES_AT_A_TIME]
        true, detected = ([item for kind in part for item in side[kind["id"]]] for side in (objects, found))
        if federated:
            true = [{**item, "iscrowd": 0} for item in true]
        seen = {item["image_id"] for item in (*true, *detected)}
        images = [image for image in truth["images"] if image["id"] in seen]
        apis = (_index(images, part, items, iou_type) for items in (true, detected))
        evaluator = COCOeval_faster(*apis, iou_type, lvis_style=federated)
        evaluator.params.maxDets = [max_detections]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = list(AREAS.values()), list(AREAS)
        evaluator.evaluate()
        evaluator.accumulate()
        tables.append(evaluator.eval["precision"][:, :, :, :, 0])
    return np.concatenate(tables, axis=2)


def _by_class(items: Sequence[Mapping[str, Any]]) -> defaultdict[int, list[Mapping[str, Any]]]:
    grouped: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        grouped[item["category_id"]].append(item)
    return grouped


def box_evaluator(
    images: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    max_detections: list[int],
) -> COCOeval_faster:
    """Make the evaluator for boxes of all areas; ``evaluate`` and ``accumulate`` are the caller's."""
    truth_api, detections_api = (_index(images, categories, items, "bbox") for items in (objects, detections))
    evaluator = COCOeval_faster(truth_api, detections_api, "bbox")
    evaluator.params.maxDets = max_detections
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [AREAS["all"]], ["all"]
    return evaluator


def mean_precision(precision: NDArray[np.float64]) -> float | None:
    """Return the mean of the valid entries of a slice of the precision table, None where no category has objects."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def mean_precisions(precision: NDArray[np.float64]) -> dict[str, float | None]:
    """Return COCO's six means over a precision table: ap, ap50, ap75, and ap of small, medium and large objects."""
    whole = precision[..., 0]
    return {
        "ap": mean_precision(whole),
        "ap50": mean_precision(whole[IOU50]),
        "ap75": mean_precision(whole[IOU75]),
        **{f"ap{area[0]}": mean_precision(precision[..., number]) for number, area in enumerate(AREAS) if number},
    }


def _index(
    images: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    iou_type: IouType,
) -> COCO:
    # Numbered anew from 1, as the matching takes id 0 for "unmatched"; without masks, which only cost memory.
    annotations = [{"id": number, **_entry(item, iou_type)} for number, item in enumerate(objects, start=1)]
    return COCO({"images": list(images), "categories": list(categories), "annotations": annotations})


def _entry(item: Mapping[str, Any], iou_type: IouType) -> dict[str, Any]:
    entry = {
        "image_id": item["image_id"],
        "category_id": item["category_id"],
        "bbox": item["bbox"],
        "area": item.get("area", item["bbox"][2] * item["bbox"][3]),
        "iscrowd": item.get("iscrowd", 0),
        "score": item.get("score", 0.0),
    }
    if iou_type == "segm":
        entry["segmentation"] = item["segmentation"]
        if "score" in item:
            entry["area"] = mask_area(item["segmentation"])
    return entry
