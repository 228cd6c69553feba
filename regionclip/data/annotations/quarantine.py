"""Quarantine of pictures: images that are not there, do not decode or have another size go, with their boxes."""

from __future__ import annotations

from pathlib import Path

from regionclip.data.annotations.annotation_files import (
    NO_FILE,
    NOT_DECODED,
    ORPHAN,
    OTHER_SIZE,
    Boxes,
    Fault,
    Json,
    Rule,
    is_there,
    picture_name,
)
from regionclip.data.pictures import Looked, look_at_files


def quarantine_pictures(
    content: Json,
    folder: Path,
    path: Path,
    workers: int = 2,
    seen: dict[Path, Looked] | None = None,
) -> Boxes:
    """Set aside the images whose file is absent, does not decode or has another size than its record says.

    Args:
        content: Sound records, such as ``Boxes.content``.
        folder: What the images' names start from.
        path: The annotation file, for messages.
        workers: Threads that read and decode.
        seen: See `look_at_files`.

    Returns:
        The content without them; their faults, and those of their annotations.
    """
    files = {image["id"]: folder / picture_name(image) for image in content["images"]}
    there = {image["id"]: files[image["id"]] for image in content["images"] if is_there(folder, image)}
    looked = dict(zip(there, look_at_files(list(there.values()), workers, seen), strict=True))
    found = {image["id"]: _file_fault(image, looked.get(image["id"])) for image in content["images"]}
    faults = [Fault("images", f"image {key}", *fault, files[key]) for key, fault in found.items() if fault]
    images = [image for image in content["images"] if not found[image["id"]]]
    annotations = [annotation for annotation in content["annotations"] if not found[annotation["image_id"]]]
    faults += [
        Fault("annotations", f"annotation {annotation['id']} of {files[annotation['image_id']].name}", ORPHAN)
        for annotation in content["annotations"]
        if found[annotation["image_id"]]
    ]
    counts = {part: len(content[part]) for part in ("images", "annotations")}
    return Boxes(path, content | {"images": images, "annotations": annotations} if faults else content, counts, faults)


def _file_fault(image: Json, looked: Looked | None) -> tuple[Rule, str] | None:
    if looked is None or looked.sha256 is None:
        return NO_FILE, ""
    if looked.error:
        return NOT_DECODED, looked.error
    if (looked.width, looked.height) != (image["width"], image["height"]):
        return OTHER_SIZE, f"{looked.width} x {looked.height}"
    return None
