"""Detections: from MMDetection's data samples to columns, to a COCO results file and back, checked when read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regionclip.data.annotations.masks import checked_rle, encode_masks, mask_area, mask_box
from regionclip.data.annotations.truth import BoxArrays, BoxColumns, Truth
from regionclip.errors import InputError
from regionclip.files import atomic_path, read_json_list

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample

_KEYS = ("image_id", "category_id", "bbox", "score")
_AT_A_TIME = 10_000  # detections that are text or dicts at a time
_AGAIN = "write the detections again"
_OTHER_IMAGES, _OTHER_CLASSES = "detect on the images that are evaluated", "detect the classes that are evaluated"


def detections_from_samples(samples: Iterable[DetDataSample], category_ids: Sequence[int]) -> BoxArrays:
    """Turn predictions into detections.

    Args:
        samples: Data samples with ``img_id`` and ``pred_instances``: bboxes (N, 4) xyxy in original pixels,
            labels (N,) that index ``category_ids``, scores (N,), and masks where the model has them: a bool tensor
            (N, H, W) in original pixels or N RLEs.
        category_ids: The category id of every label, in label order.

    Returns:
        Boxes rounded to 0.01 pixel, scores to six significant digits (files stay small, scores keep their order).

    Raises:
        InputError: A label has no category id, or a box or score is not finite.
    """
    columns = BoxColumns()
    for sample in samples:
        found = sample.pred_instances
        boxes, labels, scores = (getattr(found, key).numpy(force=True) for key in ("bboxes", "labels", "scores"))
        boxes, scores = boxes.astype(np.float64).reshape(-1, 4), scores.astype(np.float64)
        record = f"image {sample.img_id}"
        if labels.size and not 0 <= labels.min() <= labels.max() < len(category_ids):
            problem = f"label indices {labels.min()} to {labels.max()} do not fit {len(category_ids)} categories"
            mend = "evaluate with the class list that the classifier was given"
            raise InputError(problem, record=record, mend=mend)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise InputError("a box or score is not finite", record=record, mend="look for a diverged training")
        boxes[:, 2:] -= boxes[:, :2]
        masks = getattr(found, "masks", None)
        masks = masks.numpy(force=True) if hasattr(masks, "numpy") else masks
        rles = [None] * len(boxes) if masks is None else encode_masks(masks)
        for box, label, score, mask in zip(
            boxes.round(2).tolist(), labels.tolist(), scores.tolist(), rles, strict=True
        ):
            columns.add(sample.img_id, category_ids[label], box, score=float(f"{score:.6g}"), mask=mask)
    return columns.arrays()


def save_detections(path: str | Path, detections: BoxArrays) -> None:
    """Write a compact COCO results file, atomically."""
    with atomic_path(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write("[")
        for start in range(0, len(detections), _AT_A_TIME):
            part = [*coco_results(detections.take(slice(start, start + _AT_A_TIME)))]
            file.write((", " if start else "") + json.dumps(part, ensure_ascii=False)[1:-1])
        file.write("]\n")


def coco_results(detections: BoxArrays) -> Iterator[dict[str, Any]]:
    """Yield COCO result dicts: image_id, category_id, bbox, score, and segmentation (RLE) where there is a mask."""
    columns = (detections.image_ids, detections.category_ids, detections.boxes, detections.scores)
    for row, values in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        mask = detections.mask(row)
        yield dict(zip(_KEYS, values, strict=True)) | ({} if mask is None else {"segmentation": mask})


def read_detections(detections: Sequence[Mapping[str, Any]] | str | Path, truth: Truth) -> BoxArrays:
    """Read detections of whatever origin and refuse those that do not belong to a ground truth.

    Args:
        detections: COCO result dicts, in which a mask may stand without its box; or a JSON file of them.
        truth: What ``load_truth`` returns.

    Returns:
        The detections in the order given; where the box is that of the mask, the area is the mask's too.

    Raises:
        InputError: A key is missing, a value has another type, an image or category is not in the ground truth, a
            number is not finite, or a mask is no RLE of its picture's size.
    """
    file = Path(detections) if isinstance(detections, str | Path) else None
    rows: Any = detections if file is None else read_json_list(file, "give a COCO results file")
    sizes = {
        image["id"]: (image["height"], image["width"]) if image.keys() >= {"height", "width"} else None
        for image in truth.images
    }
    category_ids = set(truth.category_ids)
    columns = BoxColumns()
    for index, row in enumerate(rows):
        where = {"file": file, "record": f"detection {index}"}
        try:
            columns.add(**_checked(row, sizes, category_ids, where))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not a detection ({error})", **where, mend=_AGAIN) from None
    return columns.arrays(file)


def require_known(detections: BoxArrays, images: Iterable[Mapping[str, Any]], truth: Truth) -> None:
    """Refuse detections on other images, or of classes that are not in a ground truth.

    Raises:
        InputError: It names the first of them.
    """
    for what, given, known, mend in (
        ("image", detections.image_ids, [image["id"] for image in images], _OTHER_IMAGES),
        ("category", detections.category_ids, truth.category_ids, _OTHER_CLASSES),
    ):
        strange = np.flatnonzero(~np.isin(given, np.array(known, np.int64)))
        if strange.size:
            problem, record = f"the ground truth has no {what} {given[strange[0]]}", f"detection {strange[0]}"
            raise InputError(problem, file=detections.file, record=record, mend=mend)


def _checked(
    row: Mapping[str, Any],
    sizes: Mapping[int, tuple[int, int] | None],
    category_ids: set[int],
    where: dict[str, Any],
) -> dict[str, Any]:
    """Return the arguments of ``BoxColumns.add`` for a result dict."""
    # COCO's form of a mask's result has no box; a tool that leaves it empty means the same.
    without_box = "segmentation" in row and not row.get("bbox")
    for key in _KEYS:
        if key not in row and not (key == "bbox" and without_box):
            raise InputError("the key is missing", **where, key=key, mend=_AGAIN)
    for what, known, mend in (("image", sizes, _OTHER_IMAGES), ("category", category_ids, _OTHER_CLASSES)):
        if row[f"{what}_id"] not in known:
            raise InputError(f"the ground truth has no {what} {row[f'{what}_id']}", **where, mend=mend)
    image_id = int(row["image_id"])
    mask = checked_rle(row["segmentation"], sizes[image_id], where) if "segmentation" in row else None
    box = mask_box(mask) if without_box else [float(value) for value in row["bbox"]]
    score = float(row["score"])
    if len(box) != 4 or not all(map(math.isfinite, (*box, score))) or min(box[2:]) < 0:
        raise InputError("the box or score is not finite, or the box has no size", **where, mend=_AGAIN)
    return {
        "image_id": image_id,
        "category_id": int(row["category_id"]),
        "box": box,
        "score": score,
        "mask": mask,
        # As COCO's and LVIS's loaders have it: the size of an object is that of its box, where it comes with one.
        "area": mask_area(mask) if without_box else None,
    }
