"""COCO and LVIS annotation files as plain JSON: reading with checks, and keeping some of the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from regionclip.data.sources import mend_missing
from regionclip.errors import InputError
from regionclip.files import read_json

Json = dict[str, Any]
Keys = Mapping[str, Collection[str]]
Clean = Callable[[Json, Path], Json]

_MEND = "fetch the file again, or mend the record"
_LISTED = 12  # names that a message lists


def read_annotations(path: Path, keys: Keys, clean: Clean | None = None) -> Json:
    """Read an annotation file and check what a split is made from.

    Args:
        path: The JSON file.
        keys: For each of ``images``, ``annotations`` and ``categories`` the keys that every record must have.
        clean: Takes bad records out of the content before the checks; None: a bad record is an error.

    Raises:
        InputError: The file is absent or not JSON, a list or key is missing, an id or name of a category occurs twice,
            or an annotation is of an unknown image or category.
    """
    if not path.exists():
        raise InputError("the file does not exist", file=path, mend=mend_missing(path, "mend the path"))
    content = read_json(path)
    if clean is not None and isinstance(content, dict):
        content = clean(content, path)
    for part, wanted in keys.items():
        records = content.get(part) if isinstance(content, dict) else None
        if not isinstance(records, list):
            raise InputError("the list is missing", file=path, key=part, mend="give an annotation file of boxes")
        for number, record in enumerate(records):
            for key in wanted:
                if not isinstance(record, dict) or key not in record:
                    raise InputError("the key is missing", file=path, record=f"{part}[{number}]", key=key, mend=_MEND)
    for key in ("id", "name"):
        _require_unique((category[key] for category in content["categories"]), path, key)
    for key, part in (("image_id", "images"), ("category_id", "categories")):
        known = {record["id"] for record in content[part]}
        for annotation in content["annotations"]:
            if annotation[key] not in known:
                problem = f"there is no record {annotation[key]} among the {part}"
                raise InputError(problem, file=path, record=f"annotation {annotation['id']}", key=key, mend=_MEND)
    return content


def _require_unique(values: Iterable[Any], path: Path, key: str) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(
            f"more than once: {listed(twice)}", file=path, record="categories", key=key, mend="keep one of each"
        )


def listed(names: Iterable[Any], most: int = _LISTED) -> str:
    """Return names as a message shows them: the first twelve, or ``most``, and how many there are more."""
    names = [f"'{name}'" for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def names_with_boxes(content: Json) -> set[str]:
    """Return the names of the categories that have an annotation."""
    used = {annotation["category_id"] for annotation in content["annotations"]}
    return {category["name"] for category in content["categories"] if category["id"] in used}


def keep_categories(content: Json, ids: Collection[int], *, keep_empty: bool) -> Json:
    """Drop categories, their annotations, and then the images left without any annotation (crowds count as one).

    Source: RegionCLIP ``data/datasets/coco_zeroshot_categories.py`` (after OVR-CNN), which makes ``ovd_ins_*.json`` so.

    Args:
        content: An annotation file.
        ids: Ids of the categories to keep.
        keep_empty: Keep the images without annotations, as the complete files of COCO and LVIS do.
    """
    annotations = [annotation for annotation in content["annotations"] if annotation["category_id"] in ids]
    seen = {annotation["image_id"] for annotation in annotations}
    return content | {
        "images": [image for image in content["images"] if keep_empty or image["id"] in seen],
        "annotations": annotations,
        "categories": [category for category in content["categories"] if category["id"] in ids],
    }


def without_empty_boxes(content: Json) -> Json:
    """Drop annotations whose box has no width or no height; images stay.

    COCO's train2017 has two (ids 918 and 2206849). Detectron2 and MMDetection drop them while they train; an annotation
    file without them passes the gate that finds such boxes in other files.
    """
    return content | {"annotations": [a for a in content["annotations"] if 0 not in a["bbox"][2:]]}


def picture_name(image: Json) -> str:
    """Return the file of an image record relative to the pictures' folder.

    LVIS names a picture only by its address, whose last two parts are folder (train2017 or val2017) and file.
    """
    return image["file_name"] if "file_name" in image else "/".join(image["coco_url"].rsplit("/", 2)[-2:])
