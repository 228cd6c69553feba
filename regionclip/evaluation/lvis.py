"""LVIS box and mask metrics with federated semantics: AP, AP50, and AP of rare, common and frequent classes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regionclip.data.annotations.truth import BoxArrays, Truth
from regionclip.errors import InputError
from regionclip.evaluation.average_precision import (
    IOU50,
    IouType,
    by_class,
    image_classes,
    mean_precision,
    mean_precisions,
    precision_table,
)
from regionclip.evaluation.detections import require_known
from regionclip.text.class_names import clean_lvis_name

LvisImages = Literal["all", "labelled"]

LOADER_LIMIT = 500
"""The most annotations of an image that the official loader keeps."""

_IMAGES = {
    "all": "all images count",
    "labelled": "official loader: detections on images without annotations are left out, as it never runs them; it "
    f"also gives a model at most {LOADER_LIMIT} true boxes an image, while all of them stay in the truth",
}


def evaluate_lvis(
    truth: Truth,
    detections: BoxArrays,
    max_detections: int = 300,
    *,
    iou_type: IouType = "bbox",
    images: LvisImages = "all",
) -> dict[str, Any]:
    """Measure AP as the LVIS API does (Gupta et al., CVPR 2019, section 2.3; lvis-api, lvis/eval.py).

    The highest-scoring ``max_detections`` of an image count, whatever their class. Of these, detections of a class that
    is neither annotated in the image nor listed in its ``neg_category_ids`` are dropped; unmatched detections of a
    class in its ``not_exhaustive_category_ids`` are ignored.

    The official RegionCLIP numbers come from a loader that leaves out images without annotations, also at test, so that
    false alarms on images with nothing but negative classes do not count (detectron2, data/datasets/lvis.py). With
    ``images="labelled"`` they do not count here either. Its limit of 500 annotations an image bounds the boxes
    that a model is given, not the truth, which the LVIS API reads from the file by itself.

    Args:
        truth: Of an LVIS v1 JSON (``load_truth(file, lvis=True)``), with masks for ``segm``.
        detections: Of a detector, or read from a file (`read_detections`).
        max_detections: The most detections that count in an image.
        iou_type: ``bbox``, or ``segm`` for masks, which the truth and every detection must have then.
        images: ``all``, the LVIS protocol; or ``labelled``, the official loader's, as above.

    Returns:
        Fractions 0..1: ap, apr, apc, apf (means over IoU 0.50:0.95), ap50, ap75, aps, apm, apl (by object area),
        per_class {name: AP}, per_class_ap50, with names as a person writes them (``clean_lvis_name``); no_ground_truth
        (classes without an object, excluded from every mean); detections, detections_over_limit, detections_unlabelled
        and detections_left_out (counts: given, beyond the limit, dropped as neither positive nor negative, dropped with
        their image); images_over_loader_limit (count); protocol (words). A mean over no class at all is None.

    Raises:
        InputError: A frequency is none, a detection is on no image or of no class of the truth, a mask is missing, or
            ``images`` is neither.
    """
    if images not in _IMAGES:
        raise InputError(f"'{images}' is not known", key="images", mend=f"use {' or '.join(_IMAGES)}")
    require_known(detections, truth.images, truth)
    frequency = _frequencies(truth)
    annotated, objects = np.unique(truth.objects.image_ids, return_counts=True)
    looked_at = detections
    if images == "labelled":
        looked_at = detections.take(np.isin(detections.image_ids, annotated))
    strongest = looked_at.take(_strongest(looked_at, max_detections))
    counted = strongest.take(_labelled(truth, strongest))
    precision = precision_table(truth, counted, max_detections, iou_type=iou_type, federated=True)
    names = [clean_lvis_name(name) for name in truth.names]
    per_class = by_class(precision, names)
    return {
        **mean_precisions(precision),
        **{f"ap{letter}": mean_precision(precision[:, :, frequency == letter, 0]) for letter in "rcf"},
        "per_class": per_class,
        "per_class_ap50": by_class(precision[IOU50], names),
        "no_ground_truth": [name for name in names if name not in per_class],
        "detections": len(detections),
        "detections_left_out": len(detections) - len(looked_at),
        "detections_over_limit": len(looked_at) - len(strongest),
        "detections_unlabelled": len(strongest) - len(counted),
        "images_over_loader_limit": int((objects > LOADER_LIMIT).sum()),
        "protocol": f"LVIS {'mask' if iou_type == 'segm' else 'box'} AP, federated: {len(names)} classes at once, all "
        f"areas, at most {max_detections} detections an image; {_IMAGES[images]}; AP over IoU 0.50:0.95, AP50 at IoU "
        "0.50; r, c, f by the file's frequency",
    }


def _strongest(detections: BoxArrays, limit: int) -> NDArray[np.int64]:
    """Return the rows of each image's best detections, in the order given."""
    # A stable sort, so that equal scores keep the order given, as in lvis/results.py.
    order = np.lexsort((-detections.scores, detections.image_ids))
    ids = detections.image_ids[order]
    rank = np.arange(len(ids)) - np.searchsorted(ids, ids)
    return np.sort(order[rank < limit])


def _labelled(truth: Truth, detections: BoxArrays) -> NDArray[np.bool_]:
    """Return which detections are of a class that is known to be, or not to be, in their image."""
    absent = [(image["id"], category) for image in truth.images for category in image["neg_category_ids"]]
    known = image_classes(truth, truth.objects.image_ids, truth.objects.category_ids)
    known = np.concatenate([known, image_classes(truth, *np.array(absent, np.int64).reshape(-1, 2).T)])
    return np.isin(image_classes(truth, detections.image_ids, detections.category_ids), known)


def _frequencies(truth: Truth) -> NDArray[np.str_]:
    frequency = np.array([str(category["frequency"]) for category in truth.categories])
    strange = np.flatnonzero(~np.isin(frequency, ["r", "c", "f"]))
    if strange.size:
        record, mend = f"category {truth.category_ids[strange[0]]}", "write the frequency as LVIS does"
        problem = f"the frequency '{frequency[strange[0]]}' is not r, c or f"
        raise InputError(problem, file=truth.file, record=record, key="frequency", mend=mend)
    return frequency
