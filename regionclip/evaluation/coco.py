"""COCO box and mask metrics by three protocols: generalised and constrained open-vocabulary, and closed-set."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np

from regionclip.data.annotations.truth import BoxArrays, Truth
from regionclip.data.layout import ClassList
from regionclip.errors import InputError
from regionclip.evaluation.average_precision import (
    IOU50,
    IouType,
    by_class,
    mean_precision,
    mean_precisions,
    precision_table,
)
from regionclip.evaluation.detections import require_known

Group = Literal["all", "base", "novel"]


def evaluate_coco(
    truth: Truth,
    detections: BoxArrays,
    classes: ClassList,
    max_detections: int = 100,
    *,
    iou_type: IouType = "bbox",
    group: Group = "all",
) -> dict[str, Any]:
    """Measure AP on all classes at once and split AP50 into base and novel: the generalised protocol.

    With no novel classes it is the closed-set protocol, and says so. AP50 of a split is the mean of all valid precision
    entries at IoU 0.50 over the split's categories, all areas (RegionCLIP, evaluation/coco_evaluation.py); the same as
    the mean of the classes' AP50.

    Where only the base or only the novel classes exist it is the constrained protocol. The truth is cut to these
    classes and images left without any object are dropped, as in the official files of the 48 and of the 17 classes.
    The numbers are higher than the generalised ones, as no class of the other group competes; never compare the two.

    Args:
        truth: Its categories are the base and the novel classes, no others; with a group, at least those of the group.
            With masks for ``segm`` (`load_truth`).
        detections: Of a detector, or read from a file (`read_detections`). With a group, of a model **whose vocabulary
            was these classes only**; those on dropped images are left out and counted.
        classes: Which category names are base and which novel.
        max_detections: The most detections of one class that count in an image, highest scores first.
        iou_type: ``bbox``, or ``segm`` for masks, which the truth and every detection must have then.
        group: The classes that exist.

    Returns:
        Fractions 0..1: ap (mean over IoU 0.50:0.95), ap50, ap75, aps, apm, apl (ap of small, medium and large objects,
        by their ``area``), per_class {name: AP50}; no_ground_truth (classes without an object, excluded from every
        mean), detections (their count), protocol (words). Of all classes also ap50_base, ap50_novel and ap50_all (the
        same number as ap50, by the name it has in tables); of a group detections_left_out and images_dropped (counts).
        A mean over no class at all is None.

    Raises:
        InputError: The classes and the categories differ, a detection is on no image or of no class of the truth, or a
            mask is missing.
    """
    splits = {"base": classes.base_names, "novel": classes.novel_names}
    names = splits.get(group, [*classes.base_names, *classes.novel_names])
    part = truth if group == "all" else truth.only(names)
    _require_names(part.names, names, truth)
    require_known(detections, truth.images, part)
    found = detections.take(np.isin(detections.image_ids, [image["id"] for image in part.images]))
    precision = precision_table(part, found, max_detections, iou_type=iou_type)
    per_class = by_class(precision[IOU50], part.names)
    result = {
        **mean_precisions(precision),
        "per_class": per_class,
        "no_ground_truth": [name for name in part.names if name not in per_class],
        "detections": len(detections),
    }
    if group == "all":
        for split, members in splits.items():
            chosen = [name in members for name in truth.names]
            result[f"ap50_{split}"] = mean_precision(precision[IOU50, :, chosen, 0])
        result["ap50_all"] = result["ap50"]
    else:
        result["detections_left_out"] = len(detections) - len(found)
        result["images_dropped"] = len(truth.images) - len(part.images)
    words = f"COCO {'mask' if iou_type == 'segm' else 'box'} AP, {_setting(classes, group)}, all areas, at most "
    words += f"{max_detections} detections an image and class; AP50 at IoU 0.50, AP over IoU 0.50:0.95"
    return result | {"protocol": words}


def _setting(classes: ClassList, group: Group) -> str:
    base, novel = len(classes.base_names), len(classes.novel_names)
    if group != "all":
        number = base if group == "base" else novel
        return f"constrained: the {number} {group} classes alone, images without any of them dropped"
    if not novel:
        return f"closed set: {base} classes at once"
    return f"generalised: {base + novel} classes at once ({base} base, {novel} novel)"


def _require_names(names: Collection[str], wanted: Collection[str], truth: Truth) -> None:
    if sorted(names) != sorted(wanted):
        wrong = sorted(set(names) ^ set(wanted)) or sorted(name for name in wanted if list(wanted).count(name) > 1)
        problem = f"categories and class list differ in: {', '.join(map(str, wrong))}"
        mend = "evaluate with the class list of this annotation file"
        raise InputError(problem, file=truth.file, key="categories", mend=mend)
