"""The protocol of each data set: which numbers its detections give."""

from __future__ import annotations

from typing import Any, Literal

from regionclip.data.annotations.truth import BoxArrays, Truth
from regionclip.data.layout import load_classes
from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IouType
from regionclip.evaluation.coco import evaluate_coco, evaluate_coco_constrained
from regionclip.evaluation.lvis import LvisImages, evaluate_lvis

Group = Literal["all", "base", "novel"]

MAX_DETECTIONS = {"coco": 100, "lvis": 300}


def measure(
    dataset: str, truth: Truth, detections: BoxArrays, group: Group = "all", lvis_images: LvisImages = "all"
) -> dict[str, Any]:
    """Measure detections by the data set's protocol: COCO generalised or constrained, or LVIS; see those modules.

    Args:
        dataset: ``coco`` or ``lvis``.
        truth: Of the split that was detected on.
        detections: Of ``detect`` with the same ``group``.
        group: ``base`` or ``novel``: COCO's constrained protocol.
        lvis_images: LVIS: see ``images`` of `evaluate_lvis`.

    Returns:
        The numbers of the boxes; and under ``segm`` those of the masks, if every detection has one.

    Raises:
        InputError: The constrained protocol is wanted of LVIS, which has none.
    """
    if dataset == "lvis" and group != "all":
        raise InputError(f"LVIS has no constrained protocol ('{group}')", key="group", mend="use all")

    def numbers(iou_type: IouType) -> dict[str, Any]:
        most = MAX_DETECTIONS[dataset]
        if dataset == "lvis":
            return evaluate_lvis(truth, detections, most, iou_type=iou_type, images=lvis_images)
        classes = load_classes(dataset)
        if group == "all":
            return evaluate_coco(truth, detections, classes, most, iou_type=iou_type)
        return evaluate_coco_constrained(truth, detections, classes.groups[group], group, most, iou_type=iou_type)

    masked = len(detections) > 0 and bool(detections.masked().all())
    return numbers("bbox") | ({"segm": numbers("segm")} if masked else {})
