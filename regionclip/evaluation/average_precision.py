"""Average precision: faster-coco-eval, counting as COCOeval or as LVISEval does, and means over its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from regionclip.evaluation.truth import Truth

IOU50 = slice(0, 1)
"""The first of COCO's ten IoU thresholds 0.50, 0.55, ... 0.95."""


def precision_table(
    truth: Truth, detections: Sequence[Mapping[str, Any]], max_detections: int, *, federated: bool = False
) -> NDArray[np.float64]:
    """Return interpolated precision for boxes of all areas.

    Args:
        truth: What ``load_truth`` returns.
        detections: COCO result dicts that fit ``truth`` (``read_detections``).
        max_detections: The most detections that count in an image **for one class**, as COCOeval has it.
        federated: LVIS: drop detections of classes that are neither positive nor negative in their image, ignore
            unmatched ones of classes not annotated exhaustively there, and know no crowds.

    Returns:
        (10 IoU thresholds, 101 recall thresholds, K categories by ascending id); -1 where a category has no object.
    """
    objects = [{**item, "iscrowd": 0 if federated else int(item.get("iscrowd", 0))} for item in truth["annotations"]]
    evaluator = box_evaluator(truth["images"], truth["categories"], objects, detections, [max_detections], federated)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval["precision"][:, :, :, 0, 0]


def box_evaluator(
    images: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    max_detections: list[int],
    federated: bool = False,
) -> COCOeval_faster:
    """Make the evaluator for boxes of all areas; ``evaluate`` and ``accumulate`` are the caller's."""
    truth_api, detections_api = (_index(images, categories, items) for items in (objects, detections))
    evaluator = COCOeval_faster(truth_api, detections_api, "bbox", lvis_style=federated)
    evaluator.params.maxDets = max_detections
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    return evaluator


def mean_precision(precision: NDArray[np.float64]) -> float | None:
    """Return the mean of the valid entries of a slice of the precision table, None where no category has objects."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _index(
    images: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]], boxes: Sequence[Mapping[str, Any]]
) -> COCO:
    # Numbered anew from 1, as the matching takes id 0 for "unmatched"; without masks, which only cost memory.
    annotations = [
        {
            "id": index,
            "image_id": box["image_id"],
            "category_id": box["category_id"],
            "bbox": box["bbox"],
            "area": box["bbox"][2] * box["bbox"][3],
            "iscrowd": box.get("iscrowd", 0),
            "score": box.get("score", 0.0),
        }
        for index, box in enumerate(boxes, start=1)
    ]
    return COCO({"images": list(images), "categories": list(categories), "annotations": annotations})
