"""Average recall of class-agnostic proposals, for groups of classes such as base and novel."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import box_evaluator

COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""IoU thresholds 0.50, 0.55, ... 0.95."""


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
    images, found = _proposals_by_score(truth, proposals, max(limits))
    limits = sorted(limits)
    result: dict[str, Any] = {}
    objects: dict[str, int] = {}
    for group, members in groups.items():
        wanted = _objects(truth, np.fromiter(members, dtype=np.int64))
        objects[group] = len(wanted)
        evaluator = box_evaluator(images, [{"id": 1, "name": group}], wanted, found, list(limits))
        evaluator.params.iouThrs = np.asarray(iou_thresholds, dtype=np.float64)
        evaluator.evaluate()
        evaluator.accumulate()
        recall = evaluator.eval["recall"][:, 0, 0, :]
        result |= {
            f"ar{limit}_{group}": float(recall[:, column].mean()) if wanted else None
            for column, limit in enumerate(limits)
        }
    low, high = min(iou_thresholds), max(iou_thresholds)
    protocol = (
        f"average recall over {len(iou_thresholds)} IoU thresholds {low:.2f} to {high:.2f}, class-agnostic, all areas, "
    )
    return {**result, "objects": objects, "protocol": protocol + "each group's objects against all proposals"}


def _proposals_by_score(
    truth: Mapping[Hashable, Any], proposals: Mapping[Hashable, ArrayLike], limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, image_id in enumerate(truth, start=1):
        if image_id not in proposals:
            raise InputError("the image has no proposals", record=f"image {image_id}", mend="propose on every image")
        images.append({"id": number})
        for rank, box in enumerate(_xywh(proposals[image_id])[:limit].tolist()):
            found.append({"image_id": number, "category_id": 1, "bbox": box, "score": 1.0 - rank / limit})
    return images, found


def _objects(truth: Mapping[Hashable, tuple[ArrayLike, ArrayLike]], members: NDArray[np.int64]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": 1, "bbox": box}
        for number, (boxes, labels) in enumerate(truth.values(), start=1)
        for box in _xywh(boxes)[np.isin(np.asarray(labels), members)].tolist()
    ]


def _xywh(boxes: ArrayLike) -> NDArray[np.float64]:
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
