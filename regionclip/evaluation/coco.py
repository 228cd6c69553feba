"""COCO box and mask metrics by three protocols: generalised and constrained open-vocabulary, and closed-set."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from regionclip.data.annotations.annotation_files import keep_categories
from regionclip.data.annotations.truth import Truth, load_truth
from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IOU50, IouType, mean_precision, mean_precisions, precision_table
from regionclip.evaluation.detections import Detection, Detections, read_detections


class ClassSplit(Protocol):
    """A class list that knows its base and novel names (`regionclip.data.layout.ClassList` is one)."""

    @property
    def base_names(self) -> Collection[str]:
        """Names of the classes whose boxes are trained on."""

    @property
    def novel_names(self) -> Collection[str]:
        """Names of the classes whose boxes are never trained on."""


def evaluate_coco(
    annotations: str | Path,
    detections: Detections,
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
        annotations: COCO instances JSON whose categories are the base and the novel classes, no others.
        detections: COCO result dicts, a file of them, or an array (`read_detections`).
        classes: Which category names are base and which novel.
        max_detections: The most detections of one class that count in an image, highest scores first.
        iou_type: ``bbox``, or ``segm`` for masks, which the truth and every detection must have then.

    Returns:
        What `evaluate_coco_closed_set` returns, and fractions ap50_base, ap50_novel, ap50_all (the same number as
        ap50, by the name it has in tables).

    Raises:
        InputError: The files are unsound, the classes and the categories differ, or a mask is missing.
    """
    truth = load_truth(annotations, masks=iou_type == "segm")
    found = read_detections(detections, truth, masks=iou_type == "segm")
    names = _names_by_id(truth)
    _require_names(names, [*classes.base_names, *classes.novel_names], annotations)
    precision = precision_table(truth, found, max_detections, iou_type=iou_type)

    def ap50(members: Collection[str]) -> float | None:
        return mean_precision(precision[IOU50, :, [name in members for name in names], 0])

    result = _numbers(precision, names, found)
    setting = f"closed set: {len(names)} classes at once"
    if classes.novel_names:
        setting = f"generalised: {len(names)} classes at once ({len(classes.base_names)} base, "
        setting += f"{len(classes.novel_names)} novel)"
    return {
        **result,
        "ap50_base": ap50(classes.base_names),
        "ap50_novel": ap50(classes.novel_names),
        "ap50_all": result["ap50"],
        "protocol": _words(iou_type, setting, max_detections),
    }


def evaluate_coco_constrained(
    annotations: str | Path,
    detections: Detections,
    names: Collection[str],
    group: Literal["base", "novel"],
    max_detections: int = 100,
    *,
    iou_type: IouType = "bbox",
) -> dict[str, Any]:
    """Measure AP where only the base or only the novel classes exist: the constrained protocol.

    The truth is cut to these classes and images left without any object are dropped, as in the official files of
    the 48 and of the 17 classes (`keep_categories`). The numbers are higher than the generalised ones, as no class of
    the other group competes; never compare the two.

    Args:
        annotations: COCO instances JSON with at least these classes.
        detections: Detections of a model **whose vocabulary was these classes only**; those on dropped images are left
            out and counted.
        names: The classes that exist.
        group: What they are, for the protocol's words.
        max_detections: See `evaluate_coco`.
        iou_type: See `evaluate_coco`.

    Returns:
        What `evaluate_coco_closed_set` returns, and detections_left_out and images_dropped (counts).

    Raises:
        InputError: The files are unsound, a class is not in the truth, a detection is of another class, or a mask is
            missing.
    """
    whole = load_truth(annotations, masks=iou_type == "segm")
    ids = {category["id"] for category in whole["categories"] if category["name"] in names}
    truth = keep_categories(whole, ids, keep_empty=False)
    ordered = _names_by_id(truth)
    _require_names(ordered, names, annotations)
    given = read_detections(detections, {**truth, "images": whole["images"]}, masks=iou_type == "segm")
    images = {image["id"] for image in truth["images"]}
    found = [detection for detection in given if detection["image_id"] in images]
    precision = precision_table(truth, found, max_detections, iou_type=iou_type)
    return {
        **_numbers(precision, ordered, given),
        "detections_left_out": len(given) - len(found),
        "images_dropped": len(whole["images"]) - len(images),
        "protocol": _words(
            iou_type,
            f"constrained: the {len(names)} {group} classes alone, images without any of them dropped",
            max_detections,
        ),
    }


def evaluate_coco_closed_set(
    annotations: str | Path, detections: Detections, max_detections: int = 100, *, iou_type: IouType = "bbox"
) -> dict[str, Any]:
    """Measure AP on all classes of the file, with no split: the protocol of fully supervised detectors (COCO's 80).

    Args:
        annotations: COCO instances JSON.
        detections: See `evaluate_coco`.
        max_detections: See `evaluate_coco`.
        iou_type: See `evaluate_coco`.

    Returns:
        Fractions 0..1: ap (mean over IoU 0.50:0.95), ap50, ap75, aps, apm, apl (ap of small, medium and large objects,
        by their ``area``), per_class {name: AP50}; no_ground_truth (classes without an object, excluded from every
        mean), detections (their count), protocol (words). A mean over no class at all is None.

    Raises:
        InputError: The files are unsound, or a mask is missing.
    """
    truth = load_truth(annotations, masks=iou_type == "segm")
    found = read_detections(detections, truth, masks=iou_type == "segm")
    names = _names_by_id(truth)
    precision = precision_table(truth, found, max_detections, iou_type=iou_type)
    words = _words(iou_type, f"closed set: {len(names)} classes at once", max_detections)
    return {**_numbers(precision, names, found), "protocol": words}


def _numbers(precision: NDArray[np.float64], names: list[str], detections: Collection[Detection]) -> dict[str, Any]:
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


def _names_by_id(truth: Truth) -> list[str]:
    return [category["name"] for category in sorted(truth["categories"], key=lambda category: category["id"])]


def _require_names(names: Collection[str], wanted: Collection[str], file: str | Path) -> None:
    if sorted(names) != sorted(wanted):
        wrong = sorted(set(names) ^ set(wanted)) or sorted(name for name in wanted if list(wanted).count(name) > 1)
        raise InputError(
            f"categories and class list differ in: {', '.join(map(str, wrong))}",
            file=file,
            key="categories",
            mend="evaluate with the class list of this annotation file",
        )
