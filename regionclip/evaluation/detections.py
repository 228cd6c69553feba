"""Detections: from MMDetection's data samples to COCO result dicts, to JSON and back, checked against the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regionclip.data.annotations.truth import Truth
from regionclip.errors import InputError
from regionclip.evaluation.masks import checked_rle, encode_masks, mask_area, mask_box
from regionclip.files import read_json, write_json

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample

Detection = dict[str, Any]
Detections = Sequence[Mapping[str, Any]] | NDArray[np.floating] | str | Path

_KEYS = ("image_id", "category_id", "bbox", "score")


def detections_from_samples(samples: Iterable[DetDataSample], category_ids: Sequence[int]) -> list[Detection]:
    """Turn predictions into COCO result dicts.

    Args:
        samples: Data samples with ``img_id`` and ``pred_instances``: bboxes (N, 4) xyxy in original pixels,
            labels (N,) that index ``category_ids``, scores (N,), and masks where the model has them: a bool tensor
            (N, H, W) in original pixels or N RLEs.
        category_ids: The category id of every label, in label order.

    Returns:
        One dict a detection: image_id, category_id, bbox [x, y, width, height] rounded to 0.01 pixel, score to six
        significant digits (the files stay small and the order of scores is kept), segmentation (RLE) if it has a mask.

    Raises:
        InputError: A label has no category id, or a box or score is not finite.
    """
    results: list[Detection] = []
    for sample in samples:
        found = sample.pred_instances
        boxes, labels, scores = (getattr(found, key).numpy(force=True) for key in ("bboxes", "labels", "scores"))
        masks = getattr(found, "masks", None)
        masks = masks.numpy(force=True) if hasattr(masks, "numpy") else masks
        results += results_of_image(sample.img_id, boxes, labels, scores, category_ids, masks)
    return results


def results_of_image(
    image_id: int,
    boxes: NDArray[np.floating],
    labels: NDArray[np.integer],
    scores: NDArray[np.floating],
    category_ids: Sequence[int],
    masks: NDArray[np.bool_] | Sequence[Mapping[str, Any]] | None = None,
) -> list[Detection]:
    """Turn the detections of one image into COCO result dicts; arguments and errors as ``detections_from_samples``."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.size and (labels.min() < 0 or labels.max() >= len(category_ids)):
        raise InputError(
            f"label indices {labels.min()} to {labels.max()} do not fit {len(category_ids)} categories",
            record=f"image {image_id}",
            mend="evaluate with the class list that the classifier was given",
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise InputError(
            "a box or score is not finite", record=f"image {image_id}", mend="look for a diverged training"
        )
    sizes = boxes[:, 2:] - boxes[:, :2]
    xywh = np.concatenate([boxes[:, :2], sizes], axis=1).round(2).tolist()
    results: list[Detection] = [
        {
            "image_id": int(image_id),
            "category_id": int(category_ids[label]),
            "bbox": box,
            "score": float(f"{score:.6g}"),
        }
        for box, label, score in zip(xywh, labels.tolist(), scores.tolist(), strict=True)
    ]
    if masks is None:
        return results
    return [{**result, "segmentation": rle} for result, rle in zip(results, encode_masks(masks), strict=True)]


def save_detections(path: str | Path, detections: Sequence[Detection]) -> None:
    """Write detections as a compact COCO results file, atomically."""
    write_json(path, list(detections), indent=None)


def read_detections(detections: Detections, truth: Truth, *, masks: bool = False) -> list[Detection]:
    """Read detections and refuse those that do not belong to a ground truth.

    Args:
        detections: COCO result dicts, in which a mask may stand without its box; or a JSON file of them; or an array
            (N, 7) with columns image id, x, y, width, height, score, category id (pycocotools' order).
        truth: What ``load_truth`` returns.
        masks: Whether every detection must have a mask.

    Returns:
        New dicts with image_id, category_id, bbox, score and, where given, segmentation (RLE), in the order given;
        where the box is that of the mask, also area (pixels of the mask).

    Raises:
        InputError: A key is missing, a value has another type, an image or category is not in the ground truth, a
            number is not finite, or a mask is no RLE of its picture's size.
    """
    file = detections if isinstance(detections, str | Path) else None
    rows: Any = read_json(file) if file is not None else detections
    if isinstance(rows, np.ndarray):
        rows = _from_array(rows)
    if not isinstance(rows, Sequence):
        raise InputError("not a list of detections", file=file, mend="give a COCO results file")
    sizes = {image["id"]: _size(image) for image in truth["images"]}
    category_ids = {category["id"] for category in truth["categories"]}
    needed, found = [*_KEYS, "segmentation"] if masks else [*_KEYS], list[Detection]()
    for index, row in enumerate(rows):
        where = {"file": file, "record": f"detection {index}"}
        try:
            found.append(_checked(row, needed, sizes, category_ids, where))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not a detection ({error})", **where, mend="write the detections again") from None
    return found


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    return (image["height"], image["width"]) if "height" in image and "width" in image else None


def _from_array(rows: NDArray[np.floating]) -> list[Detection]:
    if rows.size and (rows.ndim != 2 or rows.shape[1] != 7):
        raise InputError(
            f"the array has shape {rows.shape}, wanted (N, 7)", mend="give image id, x, y, w, h, score, category id"
        )
    return [
        {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": row[1:5].tolist(), "score": float(row[5])}
        for row in rows.reshape(-1, 7)
    ]


def _checked(
    row: Mapping[str, Any],
    keys: Sequence[str],
    sizes: Mapping[int, tuple[int, int] | None],
    category_ids: set[int],
    where: dict[str, Any],
) -> Detection:
    # COCO's form of a mask's result has no box; a tool that leaves it empty means the same.
    without_box = "segmentation" in row and not row.get("bbox")
    for key in keys:
        if key not in row and not (key == "bbox" and without_box):
            raise InputError("the key is missing", **where, key=key, mend="write the detections again")
    if row["image_id"] not in sizes:
        raise InputError(
            f"the ground truth has no image {row['image_id']}", **where, mend="detect on the images that are evaluated"
        )
    if row["category_id"] not in category_ids:
        raise InputError(
            f"the ground truth has no category {row['category_id']}",
            **where,
            mend="detect the classes that are evaluated",
        )
    image_id = int(row["image_id"])
    mask = checked_rle(row["segmentation"], sizes[image_id], where) if "segmentation" in row else None
    box = mask_box(mask) if without_box else [float(value) for value in row["bbox"]]
    score = float(row["score"])
    if len(box) != 4 or not np.isfinite([*box, score]).all() or min(box[2:]) < 0:
        raise InputError(
            "the box or score is not finite, or the box has no size", **where, mend="write the detections again"
        )
    result = {"image_id": image_id, "category_id": int(row["category_id"]), "bbox": box, "score": score}
    if mask is None:
        return result
    # As COCO's and LVIS's loaders have it: the size of an object is that of its box, where it comes with one.
    return {**result, "segmentation": mask, **({"area": mask_area(mask)} if without_box else {})}
