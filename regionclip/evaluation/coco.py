"""COCO box and mask metrics by three protocols: generalised and constrained open-vocabulary, and closed-set."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from regionclip.data.annotations.truth import BoxArrays, Truth
from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IOU50, IouType, mean_precision, mean_precisions, precision_table
from regionclip.evaluation.detections import require_known


class ClassSplit(Protocol):
    """A class list that knows its base and novel names (`regionclip.data.layout.ClassList` is one)."""

    @property
    def base_names(self) -> Collection[str]:
        """Names of the classes whose boxes are trained on."""

    @property
    def novel_names(self) -> Collection[str]:
        """Names of the classes whose boxes are never trained on."""


def evaluate_coco(
    truth: Truth,
    detections: BoxArrays,
    classes: ClassSplit,
    max_detections: int = 100,
    *,
    iou_type: IouType = "bbox",
) -> dict[str, Any]:
    """Measure AP on all classes at once and split AP50 into base and novel: the generalised protocol.

    With no novel classes it is the closed-set protocol, and says so.

    AP50 of a split is the mean of all valid precision entries at IoU 0.50 over the split's categories, all areas
    (RegionCLIP, evaluation/coco_evaluation.py); the same as the mean of the classes' AP50.

    Args:
        truth: Its categories are the base and the novel classes, no others; with masks for ``segm`` (`load_truth`).
        detections: Of a detector, or read from a file (`read_detections`).
        classes: Which category names are base and which novel.
        max_detections: The most detections of one class that count in an image, highest scores first.
        iou_type: ``bbox``, or ``segm`` for masks, which the truth and every detection must have then.

    Returns:
        Fractions 0..1: ap (mean over IoU 0.50:0.95), ap50, ap75, aps, apm, apl (ap of small, medium and large objects,
        by their ``area``), ap50_base, ap50_novel, ap50_all (the same number as ap50, by the name it has in tables),
        per_class {name: AP50}; no_ground_truth (classes without an object, excluded from every mean), detections
        (their count), protocol (words). A mean over no class at all is None.

    Raises:
        InputError: The classes and the categories differ, a detection is on no image or of no class of the truth, or a
            mask is missing.
    """
    require_known(detections, truth.images, truth)
    _require_names(truth.names, [*classes.base_names, *classes.novel_names], truth)
    precision = precision_table(truth, detections, max_detections, iou_type=iou_type)

    def ap50(members: Collection[str]) -> float | None:
        return mean_precision(precision[IOU50, :, [name in members for name in truth.names], 0])

    result = _numbers(precision, truth.names, detections)
    setting = f"closed set: {len(truth.names)} classes at once"
    if classes.novel_names:
        setting = f"generalised: {len(truth.names)} classes at once ({len(classes.base_names)} base, "
        setting += f"{len(classes.novel_names)} novel)"
    return {
        **result,
        "ap50_base": ap50(classes.base_names),
        "ap50_novel": ap50(classes.novel_names),
        "ap50_all": result["ap50"],
        "protocol": _words(iou_type, setting, max_detections),
    }


def evaluate_coco_constrained(
    truth: Truth,
    detections: BoxArrays,
    names: Collection[str],
    group: Literal["base", "novel"],
    max_detections: int = 100,
    *,
    iou_type: IouType = "bbox",
) -> dict[str, Any]:
    """Measure AP where only the base or only the novel classes exist: the constrained protocol.

    The truth is cut to these classes and images left without any object are dropped, as in the official files of
    the 48 and of the 17 classes. The numbers are higher than the generalised ones, as no class of
    the other group competes; never compare the two.

    Args:
        truth: With at least these classes.
        detections: Detections of a model **whose vocabulary was these classes only**; those on dropped images are left
            out and counted.
        names: The classes that exist.
        group: What they are, for the protocol's words.
        max_detections: See `evaluate_coco`.
        iou_type: See `evaluate_coco`.

    Returns:
        What `evaluate_coco` returns but for base, novel and all; and detections_left_out and images_dropped (counts).

    Raises:
        InputError: A class is not in the truth, a detection is on no image of the truth or of another class, or a mask
            is missing.
    """
    part = truth.only(names)
    _require_names(part.names, names, truth)
    require_known(detections, truth.images, part)
    images = [image["id"] for image in part.images]
    found = detections.take(np.isin(detections.image_ids, images))
    precision = precision_table(part, found, max_detections, iou_type=iou_type)
    return {
        **_numbers(precision, part.names, detections),
        "detections_left_out": len(detections) - len(found),
        "images_dropped": len(truth.images) - len(images),
        "protocol": _words(
            iou_type,
            f"constrained: the {len(names)} {group} classes alone, images without any of them dropped",
            max_detections,
        ),
    }


def _numbers(precision: NDArray[np.float64], names: list[str], detections: BoxArrays) -> dict[str, Any]:
    per_class = {name: mean_precision(precision[IOU50, :, column, 0]) for column, name in enumerate(names)}
    return {
        **mean_precisions(precision),
        "per_class": {name: value for name, value in per_class.items() if value is not None},
        "no_ground_truth": [name for name, value in per_class.items() if value is None],
        "detections": len(detections),
    }


def _words(iou_type: IouType, setting: str, max_detections: int) -> str:
    return (
        f"COCO {'mask' if iou_type == 'segm' else 'box'} AP, {setting}, all areas, at most {max_detections} detections "
        "an image and class; AP50 at IoU 0.50, AP over IoU 0.50:0.95"
    )


def _require_names(names: Collection[str], wanted: Collection[str], truth: Truth) -> None:
    if sorted(names) != sorted(wanted):
        wrong = sorted(set(names) ^ set(wanted)) or sorted(name for name in wanted if list(wanted).count(name) > 1)
        raise InputError(
            f"categories and class list differ in: {', '.join(map(str, wrong))}",
            file=truth.file,
            key="categories",
            mend="evaluate with the class list of this annotation file",
        )
