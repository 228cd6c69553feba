"""Average recall of class-agnostic proposals, for groups of classes such as base and novel."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import BITS, IOUS, box_overlaps, match

IMAGES_AT_A_TIME = 500
"""20,000 images have millions of proposals."""


def average_recall(
    truth: Mapping[Hashable, tuple[ArrayLike, ArrayLike]],
    proposals: Mapping[Hashable, ArrayLike],
    groups: Mapping[str, Collection[int]],
    limits: Sequence[int] = (100, 300),
) -> dict[str, Any]:
    """Measure the share of a group's objects that proposals find, averaged over IoU thresholds (COCO's AR).

    Every group is matched on its own: its objects against all proposals, class-agnostic. Proposals take turns in their
    order; each takes the free object that it overlaps most, if the IoU reaches the threshold; one object, one proposal.

    Args:
        truth: Image id -> boxes (N, 4) xyxy and labels (N,), crowds left out (``boxes_by_image``).
        proposals: Image id -> boxes (P, 4) xyxy, best first; every image of ``truth`` must be there, P may be 0.
        groups: Group name -> the labels that belong to it; groups may overlap.
        limits: How many of an image's best proposals may be used.

    Returns:
        ``ar{limit}_{group}``: fractions 0..1, None for a group without objects; objects {group: count};
        protocol (words).

    Raises:
        InputError: An image has no entry in ``proposals``.
    """
    limits = sorted(limits)
    if lacking := [image for image in truth if image not in proposals]:
        raise InputError("the image has no proposals", record=f"image {lacking[0]}", mend="propose on every image")
    found = {group: np.zeros((len(IOUS), len(limits)), np.int64) for group in groups}
    objects = dict.fromkeys(groups, 0)
    for start in range(0, len(truth), IMAGES_AT_A_TIME):
        part = list(islice(truth.items(), start, start + IMAGES_AT_A_TIME))
        boxes, images = _stacked([proposals[image][: limits[-1]] for image, _ in part])
        rank = np.arange(len(images)) - np.searchsorted(images, images)
        for group, members in groups.items():
            wanted, places = _stacked([np.asarray(true)[np.isin(labels, list(members))] for _, (true, labels) in part])
            crowds, counted = np.zeros(len(wanted), bool), np.full(len(wanted), BITS[0].sum())
            hit, _ = match(images, box_overlaps(boxes, images, wanted, places, crowds), counted, crowds)
            hits = hit[:, None] & BITS[0] != 0
            found[group] += np.stack([hits[rank < limit].sum(axis=0) for limit in limits], axis=1)
            objects[group] += len(wanted)
    result = {
        f"ar{limit}_{group}": float((found[group][:, column] / objects[group]).mean()) if objects[group] else None
        for group in groups
        for column, limit in enumerate(limits)
    }
    protocol = f"average recall over {len(IOUS)} IoU thresholds {IOUS[0]:.2f} to {IOUS[-1]:.2f}, class-agnostic, "
    protocol += "all areas, each group's objects against all proposals"
    return {**result, "objects": objects, "protocol": protocol}


def _stacked(boxes: Sequence[ArrayLike]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the boxes xyxy of images as x, y, width and height, and the number of each box's image."""
    parts = [np.asarray(part, np.float64).reshape(-1, 4) for part in boxes]
    stacked = np.concatenate(parts)
    stacked[:, 2:] -= stacked[:, :2]
    return stacked, np.repeat(np.arange(len(parts)), [len(part) for part in parts])
