"""Ground truth: an annotation file that the metrics can rely on, and its boxes by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionclip.data.annotations.annotation_files import Json, mask_problem, read_boxes
from regionclip.errors import InputError

Truth = Json


def load_truth(path: str | Path, *, lvis: bool = False, masks: bool = False) -> Truth:
    """Read an annotation file whose records must all be sound; what images need is an id, and a size for masks.

    Args:
        path: COCO instances JSON, or LVIS v1 JSON.
        lvis: Whether LVIS's federated keys must be there too (lvisdataset.org, section "Data format").
        masks: Whether each annotation must have a mask of its image.

    Returns:
        The content; see `Boxes`.

    Raises:
        InputError: A record breaks a rule (see `read_boxes`), a category lacks its frequency, or a mask is none.
    """
    truth = read_boxes(path, "lvis" if lvis else "coco", facts={"size"} if masks else ()).sound()
    if lvis and not all("frequency" in category for category in truth["categories"]):
        raise InputError("the key is missing", file=path, key="frequency", mend="give an LVIS annotation file")
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]} if masks else {}
    for annotation in truth["annotations"] if masks else ():
        problem = mask_problem(annotation.get("segmentation"), sizes[annotation["image_id"]])
        if problem:
            record, mend = f"annotation {annotation['id']}", "give polygons or an RLE, or drop the annotation"
            raise InputError(problem, file=path, record=record, key="segmentation", mend=mend)
    return truth


def boxes_by_image(truth: Truth) -> dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return the objects of every image, crowds left out.

    Args:
        truth: What ``load_truth`` returns.

    Returns:
        Image id -> boxes (N, 4) float32 xyxy in original pixels, category ids (N,); images without objects are there
        with N = 0.
    """
    objects: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        if not annotation.get("iscrowd", 0):
            objects[annotation["image_id"]].append(annotation)
    return {image_id: _stack(items) for image_id, items in objects.items()}


def _stack(annotations: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    boxes = np.array([item["bbox"] for item in annotations], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, np.array([item["category_id"] for item in annotations], dtype=np.int64)
