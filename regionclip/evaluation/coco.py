"""COCO box metrics by the generalised open-vocabulary protocol: AP, and AP50 of base, novel and all classes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IOU50, mean_precision, precision_table
from regionclip.evaluation.detections import Detections, read_detections
from regionclip.evaluation.truth import Truth, load_truth


class ClassSplit(Protocol):
    """A class list that knows its base and novel names (`regionclip.data.layout.ClassList` is one)."""

    @property
    def base_names(self) -> Collection[str]:
        """Names of the classes whose boxes are trained on."""

    @property
    def novel_names(self) -> Collection[str]:
        """Names of the classes whose boxes are never trained on."""


def evaluate_coco(
    annotations: str | Path, detections: Detections, classes: ClassSplit, max_detections: int = 100
) -> dict[str, Any]:
    """Measure box AP on all classes at once and split AP50 into base and novel.

    AP50 of a split is the mean of all valid precision entries at IoU 0.50 over the split's categories, all areas
    (RegionCLIP, evaluation/coco_evaluation.py); the same as the mean of the classes' AP50.

    Args:
        annotations: COCO instances JSON whose categories are the base and the novel classes, no others.
        detections: COCO result dicts, a file of them, or an array (`read_detections`).
        classes: Which category names are base and which novel.
        max_detections: The most detections of one class that count in an image, highest scores first.

    Returns:
        Fractions 0..1: ap (mean over IoU 0.50:0.95), ap50, ap50_base, ap50_novel, ap50_all (the same number as ap50, by
        the name it has in tables), per_class {name: AP50}; no_ground_truth (classes without an object, excluded
        from every mean), detections (their count), protocol (words). A mean over no class at all is None.

    Raises:
        InputError: The files are unsound, or the classes and the categories differ.
    """
    truth = load_truth(annotations)
    found = read_detections(detections, truth)
    names = _names_by_id(truth, classes, annotations)
    precision = precision_table(truth, found, max_detections)
    per_class = {name: mean_precision(precision[IOU50, :, column]) for column, name in enumerate(names)}

    def ap50(members: Collection[str]) -> float | None:
        return mean_precision(precision[IOU50, :, [name in members for name in names]])

    return {
        "ap": mean_precision(precision),
        "ap50": ap50(names),
        "ap50_base": ap50(classes.base_names),
        "ap50_novel": ap50(classes.novel_names),
        "ap50_all": ap50(names),
        "per_class": {name: value for name, value in per_class.items() if value is not None},
        "no_ground_truth": [name for name, value in per_class.items() if value is None],
        "detections": len(found),
        "protocol": f"COCO box AP, generalised: {len(names)} classes at once ({len(classes.base_names)} base, "
        f"{len(classes.novel_names)} novel), all areas, at most {max_detections} detections an image and class; "
        "AP50 at IoU 0.50, AP over IoU 0.50:0.95",
    }


def _names_by_id(truth: Truth, classes: ClassSplit, file: str | Path) -> list[str]:
    names = [category["name"] for category in sorted(truth["categories"], key=lambda category: category["id"])]
    split = [*classes.base_names, *classes.novel_names]
    if sorted(names) != sorted(split):
        wrong = sorted(set(names) ^ set(split)) or sorted(name for name in split if split.count(name) > 1)
        raise InputError(
            f"categories and class list differ in: {', '.join(map(str, wrong))}",
            file=file,
            key="categories",
            mend="evaluate with the class list of this annotation file",
        )
    return names
