"""The COCO-format set of the demo world: 12 shapes, annotated as COCO does it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from regionclip.demo_world.scenes import SceneObject, SceneRecord
from regionclip.demo_world.vocabulary import SHAPE_SPLITS, SHAPES

Json = dict[str, Any]

INFO = {
    "description": "RegionCLIP demo world",
    "version": "1.0",
    "year": 2026,
    "contributor": "regionclip",
    "url": "",
    "date_created": "",
}
LICENSES = [{"id": 1, "name": "Apache-2.0", "url": "http://www.apache.org/licenses/LICENSE-2.0"}]


def file_name(image_id: int) -> str:
    """Return the file name of an image, twelve digits as in COCO."""
    return f"{image_id:012d}.jpg"


def class_list() -> Json:
    """Return the content of classes.json."""
    classes = [{"id": number, "name": name, "split": SHAPE_SPLITS[name]} for number, name in enumerate(SHAPES, 1)]
    return {"dataset": "coco", "classes": classes}


def annotation(number: int, image_id: int, category_id: int, item: SceneObject) -> Json:
    """Return the fields of an annotation that COCO and LVIS share; ``area`` counts the visible pixels."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(item.box),
        "area": item.area,
        "segmentation": item.polygons,
    }


def instances(first_id: int, side: int, records: Iterable[SceneRecord], *, with_colour: bool = False) -> Json:
    """Return the complete annotations (all 12 classes) of a set whose image ids start at ``first_id``."""
    images, annotations = [], []
    ids = {name: number for number, name in enumerate(SHAPES, 1)}
    for image_id, record in enumerate(records, first_id):
        about = {"license": 1, "file_name": file_name(image_id), "height": side, "width": side}
        images.append(about | {"date_captured": "", "id": image_id})
        for item in record.objects:
            entry = annotation(first_id + len(annotations), image_id, ids[item.kind.shape], item) | {"iscrowd": 0}
            annotations.append(entry | ({"colour": item.kind.colour} if with_colour else {}))
    return {
        "info": INFO,
        "licenses": LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": [{"supercategory": "shape", "id": number, "name": name} for name, number in ids.items()],
    }


def base_only(complete: Json) -> Json:
    """Return the training annotations: base categories with their ids, their boxes, and the images that have one."""
    kept = [c for c in complete["categories"] if SHAPE_SPLITS[c["name"]] == "base"]
    ids = {c["id"] for c in kept}
    annotations = [a for a in complete["annotations"] if a["category_id"] in ids]
    seen = {a["image_id"] for a in annotations}
    images = [i for i in complete["images"] if i["id"] in seen]
    return complete | {"images": images, "annotations": annotations, "categories": kept}
