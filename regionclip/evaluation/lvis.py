"""LVIS box metrics with federated semantics: AP, AP50, and AP of rare, common and frequent classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IOU50, mean_precision, precision_table
from regionclip.evaluation.detections import Detection, Detections, read_detections
from regionclip.evaluation.truth import Truth, load_truth


def evaluate_lvis(annotations: str | Path, detections: Detections, max_detections: int = 300) -> dict[str, Any]:
    """Measure box AP as the LVIS API does (Gupta et al., CVPR 2019, section 2.3; lvis-api, lvis/eval.py).

    The highest-scoring ``max_detections`` of an image count, whatever their class. Of these, detections of a class that
    is neither annotated in the image nor listed in its ``neg_category_ids`` are dropped; unmatched detections of a
    class in its ``not_exhaustive_category_ids`` are ignored.

    Args:
        annotations: LVIS v1 JSON (``neg_category_ids``, ``not_exhaustive_category_ids``, ``frequency``).
        detections: COCO result dicts, a file of them, or an array (`read_detections`).
        max_detections: The most detections that count in an image.

    Returns:
        Fractions 0..1: ap, apr, apc, apf (means over IoU 0.50:0.95), ap50, per_class {name: AP}, per_class_ap50, with
        names as a person writes them (``spoken_name``); no_ground_truth (classes without an object, excluded from every
        mean); detections, detections_over_limit and detections_unlabelled (counts: given, beyond the limit, and dropped
        as neither positive nor negative); protocol (words). A mean over no class at all is None.

    Raises:
        InputError: A file is unsound or lacks LVIS's keys.
    """
    truth = load_truth(annotations, lvis=True)
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    frequency = _frequencies(categories, annotations)
    given = read_detections(detections, truth)
    counted = _strongest(given, max_detections)
    precision = precision_table(truth, counted, max_detections, federated=True)
    names = [spoken_name(category["name"]) for category in categories]
    per_class = {name: mean_precision(precision[:, :, column]) for column, name in enumerate(names)}
    per_class_ap50 = {name: mean_precision(precision[IOU50, :, column]) for column, name in enumerate(names)}
    return {
        "ap": mean_precision(precision),
        "ap50": mean_precision(precision[IOU50]),
        **{f"ap{letter}": mean_precision(precision[:, :, frequency == letter]) for letter in "rcf"},
        "per_class": {name: value for name, value in per_class.items() if value is not None},
        "per_class_ap50": {name: value for name, value in per_class_ap50.items() if value is not None},
        "no_ground_truth": [name for name, value in per_class.items() if value is None],
        "detections": len(given),
        "detections_over_limit": len(given) - len(counted),
        "detections_unlabelled": _unlabelled(truth, counted),
        "protocol": f"LVIS box AP, federated: {len(categories)} classes at once, all areas, at most {max_detections} "
        "detections an image; AP over IoU 0.50:0.95, AP50 at IoU 0.50; r, c, f by the file's frequency",
    }


def spoken_name(name: str) -> str:
    """Return an LVIS category name as a person writes it: "bat_(animal)" is "bat animal".

    RegionCLIP, data/datasets/clip_prompt_utils.py, get_cls_names; all 1203 names stay distinct.
    """
    return name.replace("_", " ").replace("(", "").replace(")", "")


def _strongest(detections: Sequence[Detection], limit: int) -> list[Detection]:
    by_image: defaultdict[int, list[Detection]] = defaultdict(list)
    for detection in detections:
        by_image[detection["image_id"]].append(detection)
    # A stable sort, so that equal scores keep the order given, as in lvis/results.py.
    return [
        item for items in by_image.values() for item in sorted(items, key=lambda d: d["score"], reverse=True)[:limit]
    ]


def _unlabelled(truth: Truth, detections: Sequence[Detection]) -> int:
    labelled = {(item["image_id"], item["category_id"]) for item in truth["annotations"]}
    labelled |= {(image["id"], category) for image in truth["images"] for category in image["neg_category_ids"]}
    return sum((item["image_id"], item["category_id"]) not in labelled for item in detections)


def _frequencies(categories: Sequence[dict[str, Any]], file: str | Path) -> np.ndarray:
    for category in categories:
        if category["frequency"] not in ("r", "c", "f"):
            raise InputError(
                f"the frequency {category['frequency']!r} is not r, c or f",
                file=file,
                record=f"category {category['id']}",
                key="frequency",
                mend="write the frequency as LVIS does",
            )
    return np.array([category["frequency"] for category in categories])
