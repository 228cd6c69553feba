"""Quarantine of annotation files: bad images and boxes are set aside with their reason, the rest goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from regionclip.data.annotations.annotation_files import Json, picture_name
from regionclip.data.pictures import Looked, look_at_files
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError

BORDER = 1.0
"""Pixels by which a box may leave its image: COCO rounds boxes to 1/100, and some leave by a fraction of a pixel."""

_MEND_BOX, _MEND_IMAGE = "mend the box, or take it out", "mend the image's record, or take it out"
_FETCH, _ORPHAN = "fetch the image again, or take its record out", "its image was set aside"


class _Fault(NamedTuple):
    """What is wrong with a record; ``file`` where that is not the annotation file."""

    key: str
    problem: str
    mend: str
    file: Path | None = None


def quarantine_annotations(content: Json, path: Path, rejects: Rejects) -> Json:
    """Set aside the records of a COCO or LVIS file that nothing can be learned or measured from.

    Images: no id, an id that was there before, no name, no size in whole pixels. Annotations: no id, an id that was
    there before, an unknown image or category, an image that was set aside, a box that is not four finite numbers, has
    no width or height, or leaves its image by more than `BORDER`; an area or a crowd mark that is none.

    Args:
        content: The file's content; lists that are absent are left to ``read_annotations``.
        path: The file, for messages.
        rejects: Takes the bad records.

    Returns:
        The content without them; the same object where none is bad.

    Raises:
        InputError: Of the images or of the annotations too many are bad.
    """
    if not all(isinstance(content.get(part), list) for part in ("images", "annotations", "categories")):
        return content
    images = _sound(content["images"], "image", path, rejects, _image_fault)
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    listed = {_key(image.get("id")) for image in content["images"] if isinstance(image, dict)}
    categories = {_key(category.get("id")) for category in content["categories"] if isinstance(category, dict)}

    def fault(annotation: Json) -> _Fault | None:
        return _reference_fault(annotation, sizes, listed, categories) or _box_fault(annotation, sizes)

    return _changed(content, images, _sound(content["annotations"], "annotation", path, rejects, fault))


def quarantine_pictures(
    content: Json,
    folder: Path,
    path: Path,
    rejects: Rejects,
    workers: int = 2,
    seen: dict[Path, Looked] | None = None,
) -> Json:
    """Set aside the images whose file is absent, does not decode or has another size than its record says.

    Args:
        content: Of a COCO or LVIS file whose records are sound.
        folder: What the images' names start from.
        path: The annotation file, for messages.
        rejects: Takes the bad records: the images', and those of their annotations.
        workers: Threads that read and decode.
        seen: See `look_at_files`.

    Returns:
        The content without them; the same object where none is bad.

    Raises:
        InputError: Of the images or of the annotations too many are bad.
    """
    names = {image["id"]: picture_name(image) for image in content["images"]}
    looked = look_at_files([folder / name for name in names.values()], workers, seen)
    of_image = dict(zip(names, looked, strict=True))

    def image_fault(image: Json) -> _Fault | None:
        problem = _file_problem(image, of_image[image["id"]])
        return _Fault("file_name", problem, _FETCH, folder / names[image["id"]]) if problem else None

    images = _sound(content["images"], "image", path, rejects, image_fault)
    kept = {image["id"] for image in images}

    def fault(annotation: Json) -> _Fault | None:
        return None if annotation["image_id"] in kept else _Fault("image_id", _ORPHAN, _FETCH)

    return _changed(content, images, _sound(content["annotations"], "annotation", path, rejects, fault))


def _sound(
    records: list[Any], part: str, path: Path, rejects: Rejects, fault_of: Callable[[Json], _Fault | None]
) -> list[Json]:
    """Return the good records of a list; set the others aside, and stop when they are too many."""
    kept, seen = [], set()
    for number, record in enumerate(records):
        fault = _identity_fault(record, seen) or fault_of(record)
        if fault is None:
            kept.append(record)
            seen.add(record["id"])
            continue
        known = isinstance(record, dict) and "id" in record
        name = f"{part} {record['id']}" if known else f"{part}s[{number}]"
        rejects.add(InputError(fault.problem, file=fault.file or path, record=name, key=fault.key, mend=fault.mend))
    rejects.check(len(records) - len(kept), len(records), path)
    return kept


def _changed(content: Json, images: list[Json], annotations: list[Json]) -> Json:
    if len(images) == len(content["images"]) and len(annotations) == len(content["annotations"]):
        return content
    return content | {"images": images, "annotations": annotations}


def _identity_fault(record: Any, seen: set[Any]) -> _Fault | None:
    if not isinstance(record, dict):
        return _Fault("id", "the record is no object", "write it as the others")
    if _key(record.get("id")) is None:
        return _Fault("id", "there is no id", "give it one that no other record has")
    return _Fault("id", "an id occurs twice", "keep one of the records") if record["id"] in seen else None


def _image_fault(image: Json) -> _Fault | None:
    for key in ("width", "height"):
        if type(image.get(key)) is not int or image[key] < 1:
            return _Fault(key, f"no size in whole pixels ({_shown(image.get(key))})", _MEND_IMAGE)
    name = image.get("file_name", image.get("coco_url"))
    return None if isinstance(name, str) and name.strip() else _Fault("file_name", "there is no file name", _MEND_IMAGE)


def _reference_fault(
    annotation: Json, images: Mapping[Any, Any], listed: Collection[Any], categories: Collection[Any]
) -> _Fault | None:
    image, category = _key(annotation.get("image_id")), _key(annotation.get("category_id"))
    if image is None or image not in listed:
        return _Fault("image_id", f"there is no such image ({_shown(annotation.get('image_id'))})", _MEND_BOX)
    if category is None or category not in categories:
        return _Fault("category_id", f"there is no such category ({_shown(annotation.get('category_id'))})", _MEND_BOX)
    return None if image in images else _Fault("image_id", _ORPHAN, "mend the image's record")


def _box_fault(annotation: Json, sizes: Mapping[Any, tuple[int, int]]) -> _Fault | None:
    box, area = annotation.get("bbox"), annotation.get("area", 0)
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        return _Fault("bbox", f"the box is not a list of four numbers ({_shown(box)})", _MEND_BOX)
    problem = _geometry_problem(box, sizes[annotation["image_id"]])
    if problem:
        return _Fault("bbox", f"{problem} ({_shown(box)})", _MEND_BOX)
    if type(area) not in (int, float) or not 0 <= area < math.inf:
        return _Fault("area", f"the area is no size ({_shown(area)})", _MEND_BOX)
    crowd = annotation.get("iscrowd", 0)
    return None if crowd in (0, 1) else _Fault("iscrowd", f"neither 0 nor 1 ({_shown(crowd)})", _MEND_BOX)


def _geometry_problem(box: list[float], size: tuple[int, int]) -> str | None:
    left, top, width, height = box
    if not all(map(math.isfinite, box)):
        return "the box holds a value that is not finite"
    if width < 0 or height < 0:
        return "the box has a negative size"
    if width == 0 or height == 0:
        return "the box is empty"
    outside = min(left, top) < -BORDER or left + width > size[0] + BORDER or top + height > size[1] + BORDER
    return "the box leaves its image" if outside else None


def _file_problem(image: Json, looked: Looked) -> str | None:
    if looked.sha256 is None:
        return "the image file does not exist"
    if looked.error:
        return f"the image does not decode ({looked.error})"
    if (looked.width, looked.height) != (image["width"], image["height"]):
        return f"the image has another size than its record ({looked.width} x {looked.height})"
    return None


def _key(value: Any) -> Any:
    """Return an id that can be looked up, or None."""
    return value if type(value) in (int, str) else None


def _shown(value: Any) -> str:
    return str(value)[:60]
