"""Average recall of class-agnostic proposals, for groups of classes such as base and novel."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import ArrayLike

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import AREAS

COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""IoU thresholds 0.50, 0.55, ... 0.95."""

IMAGES_AT_A_TIME = 500
"""The evaluator takes a dict for each proposal, of which 20,000 images have millions."""


def average_recall(
    truth: Mapping[Hashable, tuple[ArrayLike, ArrayLike]],
    proposals: Mapping[Hashable, ArrayLike],
    groups: Mapping[str, Collection[int]],
    limits: Sequence[int] = (100, 300),
    iou_thresholds: Sequence[float] = COCO_IOUS,
) -> dict[str, Any]:
    """Measure the share of a group's objects that proposals find, averaged over IoU thresholds (COCO's AR).

    Every group is matched on its own: its objects against all proposals, class-agnostic. Proposals take turns in their
    order; each takes the free object that it overlaps most, if the IoU reaches the threshold; one object, one proposal.

    Args:
        truth: Image id -> boxes (N, 4) xyxy and labels (N,), crowds left out (``boxes_by_image``).
        proposals: Image id -> boxes (P, 4) xyxy, best first; every image of ``truth`` must be there, P may be 0.
        groups: Group name -> the labels that belong to it; groups may overlap.
        limits: How many of an image's best proposals may be used.
        iou_thresholds: IoU thresholds, 0..1.

    Returns:
        ``ar{limit}_{group}``: fractions 0..1, None for a group without objects; objects {group: count};
        protocol (words).

    Raises:
        InputError: An image has no entry in ``proposals``.
    """
    limits = sorted(limits)
    if lacking := [image for image in truth if image not in proposals]:
        raise InputError("the image has no proposals", record=f"image {lacking[0]}", mend="propose on every image")
    found = {group: np.zeros((len(iou_thresholds), len(limits)), np.int64) for group in groups}
    objects = dict.fromkeys(groups, 0)
    for start in range(0, len(truth), IMAGES_AT_A_TIME):
        part = list(islice(truth.items(), start, start + IMAGES_AT_A_TIME))
        numbered = [{"id": number} for number in range(1, len(part) + 1)]
        images = COCO({"images": numbered, "categories": [{"id": 1, "name": "object"}], "annotations": []})
        results = images.loadRes(_entries(proposals[image][: limits[-1]] for image, _ in part))
        for group, members in groups.items():
            wanted = _entries(np.asarray(boxes)[np.isin(labels, list(members))] for _, (boxes, labels) in part)
            if not wanted:
                continue
            evaluator = COCOeval_faster(images.loadRes(wanted), results, "bbox")
            evaluator.params.iouThrs = np.asarray(iou_thresholds)
            evaluator.params.maxDets = limits
            evaluator.params.areaRng, evaluator.params.areaRngLbl = [AREAS["all"]], ["all"]
            evaluator.evaluate()
            evaluator.accumulate()
            found[group] += np.rint(evaluator.eval["recall"][:, 0, 0, :] * len(wanted)).astype(np.int64)
            objects[group] += len(wanted)
    result = {
        f"ar{limit}_{group}": float((found[group][:, column] / objects[group]).mean()) if objects[group] else None
        for group in groups
        for column, limit in enumerate(limits)
    }
    low, high = min(iou_thresholds), max(iou_thresholds)
    protocol = f"average recall over {len(iou_thresholds)} IoU thresholds {low:.2f} to {high:.2f}, class-agnostic, "
    protocol += "all areas, each group's objects against all proposals"
    return {**result, "objects": objects, "protocol": protocol}


def _entries(boxes_by_image: Iterable[ArrayLike]) -> list[dict[str, Any]]:
    """Return boxes xyxy, best first, as COCO's results; images count from 1."""
    return [
        {"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": -rank}
        for number, boxes in enumerate(boxes_by_image, start=1)
        for rank, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, dtype=np.float64).reshape(-1, 4).tolist())
    ]
