"""Average recall of class-agnostic proposals, for groups of classes such as base and novel."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import found_objects

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
    counts = {group: np.zeros((len(iou_thresholds), len(limits)), np.int64) for group in groups}
    objects = dict.fromkeys(groups, 0)
    images = list(truth)
    for start in range(0, len(images), IMAGES_AT_A_TIME):
        part = images[start : start + IMAGES_AT_A_TIME]
        found = [item for number, image in enumerate(part, 1) for item in _proposals(number, image, proposals, limits)]
        for group, members in groups.items():
            wanted = _objects([truth[image] for image in part], np.fromiter(members, dtype=np.int64))
            objects[group] += len(wanted)
            if wanted:
                counts[group] += found_objects(len(part), wanted, found, limits, iou_thresholds)
    result = {
        f"ar{limit}_{group}": float((counts[group][:, column] / objects[group]).mean()) if objects[group] else None
        for group in groups
        for column, limit in enumerate(limits)
    }
    low, high = min(iou_thresholds), max(iou_thresholds)
    protocol = (
        f"average recall over {len(iou_thresholds)} IoU thresholds {low:.2f} to {high:.2f}, class-agnostic, all areas, "
    )
    return {**result, "objects": objects, "protocol": protocol + "each group's objects against all proposals"}


def _proposals(
    number: int, image_id: Hashable, proposals: Mapping[Hashable, ArrayLike], limits: Sequence[int]
) -> Iterator[dict[str, Any]]:
    if image_id not in proposals:
        raise InputError("the image has no proposals", record=f"image {image_id}", mend="propose on every image")
    most = max(limits)
    for rank, box in enumerate(_xywh(proposals[image_id])[:most].tolist()):
        yield {"image_id": number, "bbox": box, "score": 1.0 - rank / most}


def _objects(truth: Sequence[tuple[ArrayLike, ArrayLike]], members: NDArray[np.int64]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "bbox": box, "score": 0.0}
        for number, (boxes, labels) in enumerate(truth, start=1)
        for box in _xywh(boxes)[np.isin(np.asarray(labels), members)].tolist()
    ]


def _xywh(boxes: ArrayLike) -> NDArray[np.float64]:
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
