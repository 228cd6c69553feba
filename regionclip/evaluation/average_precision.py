"""Average precision as COCOeval and LVISEval count it, on arrays: matching, precision by recall, means of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from faster_coco_eval.core import mask as checked_mask
from numpy.typing import NDArray

from regionclip.data.annotations.masks import mask_area
from regionclip.data.annotations.truth import BoxArrays, Truth
from regionclip.errors import InputError

IouType = Literal["bbox", "segm"]
"""COCO's names of the two overlaps: of boxes, of masks."""

Overlaps = Iterable[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]
"""Rows of detections, rows of objects, and how much they overlap; the rows of detections ascend."""

IOUS = np.linspace(0.5, 0.95, 10)
"""COCO's ten IoU thresholds 0.50, 0.55, ... 0.95."""

IOU50, IOU75 = slice(0, 1), slice(5, 6)
"""The first and the sixth of them."""

AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
"""COCO's ranges of an object's area in square pixels, in the order of the table's last axis."""

BITS = np.left_shift(1, np.arange(40)).reshape(len(AREAS), len(IOUS))
"""An int64 holds what is true of a box for each area and IoU threshold, by these bits (4, 10)."""

_PASSED = np.concatenate([[0], BITS.sum(axis=0).cumsum()])  # bits of an overlap that reaches so many thresholds
_RECALLS = np.linspace(0.0, 1.0, 101)
_PAIRS = 1 << 20  # pairs of a detection and an object that are looked at together
_GROUPS = 1000  # classes of an image whose masks are


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
    its mask's for ``segm``, as COCOeval counts when results carry no boxes.

    Args:
        truth: What ``load_truth`` returns, with masks for ``segm``.
        detections: What fits ``truth``, with masks for ``segm``.
        max_detections: The most detections that count in an image **for one class**, as COCOeval has it.
        iou_type: Overlap of boxes or of masks.
        federated: LVIS: ignore unmatched detections of classes not annotated exhaustively in their image, and know no
            crowds. Those of classes that are neither positive nor negative there are the caller's to leave out.

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
    (true, places), (found, groups) = _sorted(truth, truth.objects), _sorted(truth, detections, max_detections)
    crowds = np.zeros(len(true), bool) if federated else true.crowds
    counted = np.where(crowds, 0, _sized(true.areas))
    if iou_type == "bbox":
        areas, pairs = found.areas, box_overlaps(found.boxes, groups, true.boxes, places, crowds)
    else:
        areas, pairs = _mask_areas(found), _mask_overlaps(found, groups, true, places, crowds)
    hit, taken = match(groups, pairs, counted, crowds)
    missed = _sized(areas) & ~taken
    if federated:
        lists = [(image["id"], key) for image in truth.images for key in image["not_exhaustive_category_ids"]]
        missed[np.isin(groups, image_classes(truth, *np.array(lists, np.int64).reshape(-1, 2).T))] = 0
    order = np.lexsort((-found.scores, found.category_ids))
    classes = (np.searchsorted(truth.category_ids, ids) for ids in (found.category_ids[order], true.category_ids))
    return _precision(hit[order], missed[order], counted, *classes, len(truth.categories))


def image_classes(truth: Truth, image_ids: NDArray[np.int64], category_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each pair of a known image and a known class: by class, then by image, ids ascending."""
    images = np.sort(np.array([image["id"] for image in truth.images], np.int64))
    classes = np.array(truth.category_ids, np.int64)
    return np.searchsorted(classes, category_ids) * len(images) + np.searchsorted(images, image_ids)


def box_overlaps(
    found: NDArray[np.float64],
    groups: NDArray[np.int64],
    true: NDArray[np.float64],
    places: NDArray[np.int64],
    crowds: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Yield the pairs of one group whose boxes overlap enough to match, a share of them at a time.

    Args:
        found: Boxes of detections (N, 4): x, y, width, height.
        groups: The group of each, (N,), ascending; only boxes of one group meet.
        true: Boxes of objects (M, 4).
        places: The group of each, (M,), ascending.
        crowds: Whether each object is a crowd, (M,): what counts is the share of the detection in it.

    Yields:
        `Overlaps`: IoU by the arithmetic of pycocotools, to the last bit.
    """
    first, stop = (np.searchsorted(places, groups, side=side) for side in ("left", "right"))
    ends = np.cumsum(stop - first)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, _PAIRS), side="right")
    for start, end in pairwise([*cuts, len(ends)]):
        counts = (stop - first)[start:end]
        rows = np.repeat(np.arange(start, end), counts)
        objects = np.arange(len(rows)) + np.repeat(first[start:end] - (np.cumsum(counts) - counts), counts)
        (x, y, width, height), (left, top, across, down) = found[rows].T, true[objects].T
        wide = np.minimum(x + width, left + across) - np.maximum(x, left)
        high = np.minimum(y + height, top + down) - np.maximum(y, top)
        both, area = wide * high, width * height
        whole = np.where(crowds[objects], area, area + across * down - both)
        ious = np.divide(both, whole, out=np.zeros_like(both), where=(wide > 0) & (high > 0) & (whole > 0))
        near = ious >= IOUS[0]
        yield rows[near], objects[near], ious[near]


def match(
    groups: NDArray[np.int64], overlaps: Overlaps, counted: NDArray[np.int64], crowds: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match detections and objects for all areas and thresholds at once.

    The detections of a group take turns in their order. Each takes the free object that it overlaps most, of equal
    ones the last; but one that does not count only where it reaches none that does. A crowd is always free. Here each
    turn is that of one detection and one object in every group that still has one.

    Args:
        groups: The group of each detection, (N,), ascending, best first.
        overlaps: The pairs that may match.
        counted: Of each object, (M,), the ``BITS`` for which it counts; for the others it is ignored.
        crowds: Whether each object is a crowd, (M,).

    Returns:
        Of each detection, (N,): ``BITS`` with an object that counts, and ``BITS`` with any.
    """
    hit, taken, gone = np.zeros(len(groups), np.int64), np.zeros(len(groups), np.int64), np.zeros_like(counted)
    left = np.where(crowds, 0, -1)
    for found, true, ious in overlaps:
        passed = _PASSED[np.searchsorted(IOUS, ious, side="right")]
        bits = np.concatenate([passed & counted[true], passed & ~counted[true]])
        rows, objects = np.tile(found, 2), np.tile(true, 2)
        # Those that count come first, then what overlaps most, then the last.
        order = np.lexsort((-objects, np.tile(-ious, 2), np.arange(len(bits)) >= len(true), rows))
        order = order[bits[order] != 0]
        rows, objects, bits = rows[order], objects[order], bits[order]
        turn = np.arange(len(rows)) - np.searchsorted(groups[rows], groups[rows])
        for now in np.split(np.argsort(turn, kind="stable"), np.bincount(turn).cumsum()[:-1]):
            row, thing = rows[now], objects[now]
            new = bits[now] & ~(taken[row] | gone[thing])
            taken[row] |= new
            hit[row] |= new & counted[thing]
            gone[thing] |= new & left[thing]
    return hit, taken


def _precision(
    hit: NDArray[np.int64],
    missed: NDArray[np.int64],
    counted: NDArray[np.int64],
    found_classes: NDArray[np.int64],
    true_classes: NDArray[np.int64],
    classes: int,
) -> NDArray[np.float64]:
    """Return the table; detections by class and falling score. At a recall it is the best precision from there on.

    Only hits are looked at: precision falls between them. Those of a class are followed by a 0, where recalls lie that
    it does not reach.
    """
    table = np.empty((len(IOUS), len(_RECALLS), classes, len(AREAS)))
    starts = np.searchsorted(found_classes, np.arange(classes))
    for area, bits in enumerate(BITS):
        objects = np.bincount(true_classes[(counted & bits[0]) != 0], minlength=classes)
        # The number of hits that reach a recall, by the same division, so that what floats make of it is the same.
        number = np.maximum(objects, 1)[:, None]
        wanted = np.maximum(np.ceil(_RECALLS * number) - 1, 0)
        for _ in range(2):
            wanted += wanted / number < _RECALLS
        for threshold, bit in enumerate(bits):
            hits = np.flatnonzero(hit & bit)
            kinds, first = found_classes[hits], np.searchsorted(hits, starts)
            right = np.arange(1, len(hits) + 1) - first[kinds]
            wrong = np.concatenate([[0], np.cumsum((missed & bit) != 0)])
            padded = np.zeros(len(hits) + classes)
            padded[np.arange(len(hits)) + kinds] = right / (wrong[hits] - wrong[starts][kinds] + right)
            counts = np.diff(first, append=len(hits))
            steps = np.minimum(np.maximum(wanted, 1) - 1, counts[:, None]) + (first + np.arange(classes))[:, None]
            best = np.maximum.reduceat(padded, steps.astype(np.int64).ravel()).reshape(steps.shape)
            table[threshold, :, :, area] = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1].T
        table[:, :, objects == 0, area] = -1
    return table


def _require_masks(boxes: BoxArrays, what: str) -> None:
    bare = np.flatnonzero(~boxes.masked())
    if bare.size:
        where = {"file": boxes.file, "record": f"{what} {bare[0]}", "key": "segmentation"}
        raise InputError("the key is missing", **where, mend="measure boxes alone, or give each a mask")


def _sorted(truth: Truth, boxes: BoxArrays, most: int | None = None) -> tuple[BoxArrays, NDArray[np.int64]]:
    """Return the first ``most`` boxes of each class and image, and the `image_classes` of each.

    They are sorted by these, then by falling score; of equal scores the first given comes first, as in COCOeval.
    """
    groups = image_classes(truth, boxes.image_ids, boxes.category_ids)
    order = np.lexsort((-boxes.scores, groups))
    groups = groups[order]
    if most is not None:
        kept = np.arange(len(groups)) - np.searchsorted(groups, groups) < most
        order, groups = order[kept], groups[kept]
    return boxes.take(order), groups


def _sized(areas: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bits of the ranges that each area lies in."""
    inside = [(areas >= low) & (areas <= high) for low, high in AREAS.values()]
    return np.stack(inside, axis=-1) @ BITS.sum(axis=1)


def _mask_areas(boxes: BoxArrays) -> NDArray[np.float64]:
    return np.fromiter((mask_area(boxes.mask(row)) for row in range(len(boxes))), float, len(boxes))


def _mask_overlaps(
    found: BoxArrays,
    groups: NDArray[np.int64],
    true: BoxArrays,
    places: NDArray[np.int64],
    crowds: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """As `box_overlaps`, of masks."""
    shared = np.intersect1d(groups, places)
    for start in range(0, len(shared), _GROUPS):
        pairs = []
        for group in shared[start : start + _GROUPS]:
            sides = [range(*np.searchsorted(side, [group, group + 1])) for side in (groups, places)]
            rles = ([boxes.mask(row) for row in rows] for boxes, rows in zip((found, true), sides, strict=True))
            ious = checked_mask.iou(*rles, crowds[sides[1].start : sides[1].stop].tolist())
            rows, objects = np.nonzero(ious >= IOUS[0])
            pairs.append((rows + sides[0].start, objects + sides[1].start, ious[rows, objects]))
        yield tuple(np.concatenate(columns) for columns in zip(*pairs, strict=True))


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
