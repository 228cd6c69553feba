"""Ground truth: reads a COCO or LVIS annotation file, checks what the metrics rely on, and gives boxes by image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionclip.errors import InputError
from regionclip.files import read_json

Truth = dict[str, Any]

_KEYS = {"images": ("id",), "annotations": ("image_id", "category_id", "bbox"), "categories": ("id", "name")}
_LVIS_KEYS = {
    "images": ("neg_category_ids", "not_exhaustive_category_ids"),
    "annotations": (),
    "categories": ("frequency",),
}


_MASK_KEYS = {"images": ("height", "width"), "annotations": ("segmentation",), "categories": ()}


def load_truth(path: str | Path, *, lvis: bool = False, masks: bool = False) -> Truth:
    """Read an annotation file.

    Args:
        path: COCO instances JSON, or LVIS v1 JSON.
        lvis: Whether LVIS's federated keys must be there too (lvisdataset.org, section "Data format").
        masks: Whether the keys that masks need must be there too.

    Returns:
        The parsed JSON.

    Raises:
        InputError: A key is missing, an id is no integer or is there twice, an annotation points to nothing, or a mask
            that is wanted is empty.
    """
    truth = read_json(path)
    for part, keys in _KEYS.items():
        if not isinstance(truth, dict) or not isinstance(truth.get(part), list):
            raise InputError("the list is missing", file=path, key=part, mend="give a COCO or LVIS annotation file")
        keys += (_LVIS_KEYS[part] if lvis else ()) + (_MASK_KEYS[part] if masks else ())
        _require_keys(truth[part], keys, path, part)
    image_ids = _unique_ids(truth["images"], path, "images")
    category_ids = _unique_ids(truth["categories"], path, "categories")
    for index, annotation in enumerate(truth["annotations"]):
        if annotation["image_id"] not in image_ids or annotation["category_id"] not in category_ids:
            raise InputError(
                "the annotation's image or category is not listed",
                file=path,
                record=f"annotations[{index}]",
                mend="list the image and the category, or drop the annotation",
            )
        if masks and not annotation["segmentation"]:
            raise InputError(
                "the mask is empty",
                file=path,
                record=f"annotations[{index}]",
                key="segmentation",
                mend="give polygons or an RLE, or drop the annotation",
            )
    return truth


def cut_to_classes(truth: Truth, names: Collection[str]) -> Truth:
    """Cut an annotation file down to some classes, as the official builder of the open-vocabulary COCO files does.

    Categories outside ``names`` go, then their annotations, then the images left without any annotation; a crowd counts
    as an annotation. Ids stay (RegionCLIP, data/datasets/coco_zeroshot_categories.py).

    Args:
        truth: What ``load_truth`` returns; it is not changed.
        names: Names of the categories to keep; those that are not in the file are not missed.
    """
    categories = [category for category in truth["categories"] if category["name"] in names]
    kept = {category["id"] for category in categories}
    annotations = [annotation for annotation in truth["annotations"] if annotation["category_id"] in kept]
    seen = {annotation["image_id"] for annotation in annotations}
    images = [image for image in truth["images"] if image["id"] in seen]
    return {**truth, "images": images, "annotations": annotations, "categories": categories}


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


def _require_keys(items: Sequence[Mapping[str, Any]], keys: Sequence[str], path: str | Path, part: str) -> None:
    for index, item in enumerate(items):
        for key in keys:
            if key not in item:
                raise InputError(
                    "the key is missing", file=path, record=f"{part}[{index}]", key=key, mend="write the file again"
                )


def _unique_ids(items: Sequence[Mapping[str, Any]], path: str | Path, part: str) -> set[int]:
    seen: set[int] = set()
    for index, item in enumerate(items):
        if type(item["id"]) is not int or item["id"] in seen:
            raise InputError(
                f"the id {item['id']!r} is no integer or is there twice",
                file=path,
                record=f"{part}[{index}]",
                key="id",
                mend="give every entry its own integer id",
            )
        seen.add(item["id"])
    return seen
