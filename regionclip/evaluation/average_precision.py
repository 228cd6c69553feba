"""Average precision: faster-coco-eval, counting as COCOeval or as LVISEval does, and means over its table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from regionclip.data.annotations.masks import mask_area
from regionclip.data.annotations.truth import BoxArrays, Truth
from regionclip.errors import InputError

IouType = Literal["bbox", "segm"]
"""COCO's names of the two overlaps: of boxes, of masks."""

IOU50, IOU75 = slice(0, 1), slice(5, 6)
"""The first and the sixth of COCO's ten IoU thresholds 0.50, 0.55, ... 0.95."""

AREAS = {"all": [0, 1e10], "small": [0, 32**2], "medium": [32**2, 96**2], "large": [96**2, 1e10]}
"""COCO's ranges of an object's area in square pixels, in the order of the table's last axis."""


def precision_table(
    truth: Truth,
    detections: BoxArrays,
    max_detections: int,
    *,
    iou_type: IouType = "bbox",
    federated: bool = False,
) -> NDArray[np.float64]:
    """Return interpolated precision.

    The area of an object is its ``area``, or its box's where the file has none; that of a detection is its box's, or
    its mask's for ``segm``, as COCOeval counts when results carry no boxes. One class is evaluated at a time: what the
    evaluator takes, a dict for each box, fits into little memory so.

    Args:
        truth: What ``load_truth`` returns, with masks for ``segm``.
        detections: What fits ``truth``, with masks for ``segm``.
        max_detections: The most detections that count in an image **for one class**, as COCOeval has it.
        iou_type: Overlap of boxes or of masks.
        federated: LVIS: drop detections of classes that are neither positive nor negative in their image, ignore
            unmatched ones of classes not annotated exhaustively there, and know no crowds.

    Returns:
        (10 IoU thresholds, 101 recall thresholds, K categories by ascending id, 4 ``AREAS``); -1 where a category has
        no object of that area.

    Raises:
        InputError: The truth has no category, or an object or a detection has no mask for ``segm``.
    """
    if not truth.categories:
        raise InputError("there is no class to evaluate", key="categories", mend="give a file with categories")
    if iou_type == "segm":
        _require_masks(truth.objects, "annotation")
        _require_masks(detections, "detection")
    images = {image["id"]: image for image in truth.images}
    rows = [_rows_by_class(side, truth.category_ids) for side in (truth.objects, detections)]
    table = np.full((10, 101, len(truth.categories), len(AREAS)), -1.0)
    for place, (category, true, found) in enumerate(zip(truth.categories, *rows, strict=True)):
        if not len(true):
            continue
        objects = [*_entries(truth.objects, true, iou_type)]
        if federated:
            objects = [item | {"iscrowd": 0} for item in objects]
        seen = {*truth.objects.image_ids[true].tolist(), *detections.image_ids[found].tolist()}
        results = [*_entries(detections, found, iou_type)]
        if iou_type == "segm":
            results = [item | {"area": mask_area(item["segmentation"])} for item in results]
        there = {"images": [images[key] for key in seen], "categories": [category]}
        apis = (COCO({**there, "annotations": items}) for items in (objects, results))
        evaluator = COCOeval_faster(*apis, iou_type, lvis_style=federated)
        evaluator.params.maxDets = [max_detections]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = list(AREAS.values()), list(AREAS)
        evaluator.evaluate()
        evaluator.accumulate()
        table[:, :, place] = evaluator.eval["precision"][:, :, 0, :, 0]
    return table


def _require_masks(boxes: BoxArrays, what: str) -> None:
    bare = np.flatnonzero(~boxes.masked())
    if bare.size:
        where = {"file": boxes.file, "record": f"{what} {bare[0]}", "key": "segmentation"}
        raise InputError("the key is missing", **where, mend="measure boxes alone, or give each a mask")


def _rows_by_class(boxes: BoxArrays, category_ids: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the rows of each class, in the order given."""
    order = np.argsort(boxes.category_ids, kind="stable")
    sides = (np.searchsorted(boxes.category_ids[order], category_ids, side=side) for side in ("left", "right"))
    return [order[start:stop] for start, stop in zip(*sides, strict=True)]


def _entries(boxes: BoxArrays, rows: NDArray[np.int64], iou_type: IouType) -> Iterator[dict[str, Any]]:
    """Yield boxes as COCO's index takes them; masks, which only cost memory, where they are measured."""
    part = boxes.take(rows)
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "score")
    # From 1 on, as the matching takes id 0 for "unmatched".
    ids = np.arange(1, len(part) + 1)
    columns = (ids, part.image_ids, part.category_ids, part.boxes, part.areas, part.crowds.astype(int), part.scores)
    for row, values in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        yield dict(zip(keys, values, strict=True)) | ({"segmentation": part.mask(row)} if iou_type == "segm" else {})


def by_class(precision: NDArray[np.float64], names: Sequence[str]) -> dict[str, float]:
    """Return the mean of each class that has objects, over a table (..., K categories, areas); all areas count."""
    means = {name: mean_precision(precision[..., column, 0]) for column, name in enumerate(names)}
    return {name: mean for name, mean in means.items() if mean is not None}


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
