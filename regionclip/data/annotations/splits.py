"""Writes a set of data/sets from real annotation files: splits without bad pictures, class list, manifest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.artifacts import annotations
from regionclip.data.annotations.annotation_files import (
    NO_FILE,
    NOT_DECODED,
    ORPHAN,
    OTHER_SIZE,
    Boxes,
    DerivedSplit,
    Fault,
    Json,
    Rule,
    is_there,
    picture_name,
)
from regionclip.data.annotations.class_splits import class_list, coco_splits, lvis_splits
from regionclip.data.layout import PICTURES
from regionclip.data.pictures import SEEN, Looked, look_at_files, save_seen
from regionclip.data.rejects import Rejects
from regionclip.data.sources import mend_missing
from regionclip.errors import InputError
from regionclip.files import atomic_dir, sha256_file, write_json
from regionclip.runtime import workers

if TYPE_CHECKING:
    from regionclip.params.data import DataSet

_DERIVE = {"coco": coco_splits, "lvis": lvis_splits}


def write_detection_set(
    root: Path,
    name: str,
    about: DataSet,
    rejects: Rejects | None = None,
    seen: dict[Path, Looked] | None = None,
) -> dict[str, int]:
    """Write ROOT/NAME, whole or not at all; pictures stay where they are.

    It holds ``annotations/`` (one file a split), ``classes.json`` (id, name, split and LVIS's frequency),
    ``pictures.json`` (split -> folder, as ``about.files`` writes it) and ``manifest.json`` (counts of the sources as
    they are, of what was set aside by reason and of what is written, and the SHA-256 of each source and result); with
    ``rejects`` also ``seen.arrow`` (what the pictures showed). The same sources give the same bytes.

    Args:
        root: The folder of the sets.
        name: The set's name.
        about: Its files, their format, and which classes are base.
        rejects: Takes bad records and pictures; None: they are errors, or the gate behind finds them.
        seen: What was seen of pictures before, of another set that shares them; see `look_at_files`.

    Returns:
        Images, annotations and categories of each split, and how many were left out of it; with ``rejects`` also how
        many records were set aside.

    Raises:
        InputError: An annotation file does not fit its split, or pictures are not where they should be.
    """
    counts, sources, sums, pictures, classes = {}, {}, {}, {}, []
    seen, kept = {} if seen is None else seen, {}
    with atomic_dir(root / name) as folder:
        for part in _DERIVE[about.format](about.files, about.classes, rejects):
            _require_pictures(part)
            content, set_aside = part.content, {}
            if rejects is not None:
                sound = quarantine_pictures(content, part.pictures, part.source.file, workers(), seen)
                content = sound.sound(rejects)
                set_aside = dict(Counter(part.source.counts()) + Counter(sound.counts()))
            paths = (part.pictures / picture_name(image) for image in content["images"])
            kept |= {path: seen[path] for path in paths if path in seen}
            result = annotations(part.name)
            write_json(folder / result, content, indent=None)
            counts |= {f"{part.name}_{key}": len(content[key]) for key in ("images", "annotations", "categories")}
            # Sound records that the choice of classes left out.
            for key in ("images", "annotations"):
                counts[f"{part.name}_{key}_left_out"] = len(part.source.content[key]) - len(part.content[key])
            source = {"file": part.source.file.name, "sha256": sha256_file(part.source.file), **part.source.listed}
            sources[part.name] = source | {"set_aside": set_aside}
            sums[result.as_posix()] = sha256_file(folder / result)
            pictures[part.name] = part.pictures.as_posix()
            if part.name == "val":
                classes = class_list(content["categories"], about)
        write_json(folder / "classes.json", {"dataset": name, "classes": classes})
        write_json(folder / PICTURES, pictures)
        if rejects is not None:
            save_seen(folder / SEEN, kept)
        sums |= {file: sha256_file(folder / file) for file in ("classes.json", PICTURES)}
        made = about.model_dump(include={"format", "classes"}) | {"source": "files"}
        write_json(folder / "manifest.json", made | {"counts": counts, "sources": sources, "sha256": sums})
    return counts | ({"rejected": len(rejects)} if rejects is not None else {})


def _require_pictures(part: DerivedSplit) -> None:
    """Look for a picture in each folder that the annotations name: a wrong path shows before a long run."""
    folders: dict[Path, list[Json]] = {}
    for image in part.content["images"]:
        folders.setdefault((part.pictures / picture_name(image)).parent, []).append(image)
    for folder, images in folders.items():
        if not any(is_there(part.pictures, image) for image in images):
            problem = f"the picture '{picture_name(images[0])}' of {part.source.file.name} is not there"
            mend = mend_missing(folder, f"give the folder that holds the pictures of '{part.name}'")
            raise InputError(problem, file=part.pictures, mend=mend)


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
        workers, seen: See `look_at_files`.

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
