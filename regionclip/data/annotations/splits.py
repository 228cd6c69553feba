"""Writes a set of data/sets from real annotation files: splits, class list, manifest, where pictures lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.artifacts import annotations
from regionclip.data.annotations.annotation_files import DerivedSplit, Json, is_there, picture_name
from regionclip.data.annotations.coco_split import coco_class_list, coco_splits
from regionclip.data.annotations.lvis_split import lvis_class_list, lvis_splits
from regionclip.data.annotations.quarantine import quarantine_pictures
from regionclip.data.layout import PICTURES
from regionclip.data.pictures import SEEN, Looked, save_seen
from regionclip.data.rejects import Rejects
from regionclip.data.sources import mend_missing
from regionclip.errors import InputError
from regionclip.files import atomic_dir, sha256_file, write_json
from regionclip.runtime import workers

if TYPE_CHECKING:
    from regionclip.params.data import DataSet

_DERIVE = {"coco": (coco_splits, coco_class_list), "lvis": (lvis_splits, lvis_class_list)}


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
    derive, list_classes = _DERIVE[about.format]
    counts, sources, sums, pictures, classes = {}, {}, {}, {}, []
    seen, kept = {} if seen is None else seen, {}
    with atomic_dir(root / name) as folder:
        for part in derive(about.files, about.classes, rejects):
            _require_pictures(part)
            content, set_aside = _with_pictures(part, rejects, seen)
            paths = (part.pictures / picture_name(image) for image in content["images"])
            kept |= {path: seen[path] for path in paths if path in seen}
            result = annotations(part.name)
            write_json(folder / result, content, indent=None)
            counts |= _counts(part, content)
            source = {"file": part.source.file.name, "sha256": sha256_file(part.source.file), **part.source.listed}
            sources[part.name] = source | {"set_aside": set_aside}
            sums[result.as_posix()] = sha256_file(folder / result)
            pictures[part.name] = part.pictures.as_posix()
            if part.name == "val":
                classes = list_classes(content["categories"], about.classes)
        write_json(folder / "classes.json", {"dataset": name, "classes": classes})
        write_json(folder / PICTURES, pictures)
        if rejects is not None:
            save_seen(folder / SEEN, kept)
        sums |= {file: sha256_file(folder / file) for file in ("classes.json", PICTURES)}
        made = about.model_dump(include={"format", "classes"}) | {"source": "files"}
        write_json(folder / "manifest.json", made | {"counts": counts, "sources": sources, "sha256": sums})
    return counts | ({"rejected": len(rejects)} if rejects is not None else {})


def _with_pictures(
    part: DerivedSplit, rejects: Rejects | None, seen: dict[Path, Looked]
) -> tuple[Json, dict[str, int]]:
    """Return the split without the pictures that are set aside, if they may be, and how many boxes that took so far.

    What the other pictures show is in ``seen`` then.
    """
    if rejects is None:
        return part.content, {}
    sound = quarantine_pictures(part.content, part.pictures, part.source.file, workers(), seen)
    return sound.sound(rejects), dict(Counter(part.source.counts()) + Counter(sound.counts()))


def _counts(part: DerivedSplit, content: Json) -> dict[str, int]:
    """Return how many records are written, and how many sound ones the choice of classes left out."""
    counts = {f"{part.name}_{key}": len(content[key]) for key in ("images", "annotations", "categories")}
    return counts | {
        f"{part.name}_{key}_left_out": len(part.source.content[key]) - len(part.content[key])
        for key in ("images", "annotations")
    }


def _require_pictures(part: DerivedSplit) -> None:
    """Look for a picture in each folder that the annotations name: a wrong path shows before a long run."""
    folders: dict[Path, list[Json]] = {}
    for image in part.content["images"]:
        folders.setdefault((part.pictures / picture_name(image)).parent, []).append(image)
    for folder, images in folders.items():
        if not any(is_there(part.pictures, image) for image in images):
            raise InputError(
                f"the picture '{picture_name(images[0])}' of {part.source.file.name} is not there",
                file=part.pictures,
                mend=mend_missing(folder, f"give the folder that holds the pictures of '{part.name}'"),
            )
