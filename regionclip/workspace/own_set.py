"""A user's own COCO-style data set: which classes it has, what is in it, and what is wrong with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regionclip.data.annotations.annotation_files import Json, listed, read_annotations
from regionclip.data.annotations.coco_split import OWN_KEYS, require_names
from regionclip.data.annotations.quarantine import quarantine_annotations
from regionclip.data.rejects import SUFFIX, Rejects
from regionclip.errors import InputError
from regionclip.params import OwnClasses

_SPLITS = ("train", "val")
_SHOWN = 3  # missing pictures that a message names


@dataclass(frozen=True)
class OwnSet:
    """What was found in the two annotation files.

    Attributes:
        classes: Names of the base and novel classes.
        images: Split -> number of images.
        boxes: Split -> class -> number of boxes.
        faults: Records that cannot be used and pictures in both files, one line a kind.
        notes: What the user should know, one line each.
        sides: Of each training box of a base class the root of its area, over the shorter side of its image.
    """

    classes: OwnClasses
    images: dict[str, int]
    boxes: dict[str, Counter[str]]
    faults: list[str]
    notes: list[str]
    sides: list[float]


def read_own_set(
    files: dict[str, Path], pictures: dict[str, Path], base: Sequence[str] | None, novel: Sequence[str] | None
) -> OwnSet:
    """Read and check annotation files; pictures are looked for and not opened.

    Args:
        files: "train" and "val" -> annotation file.
        pictures: "train" and "val" -> the folder that its file names start from.
        base: Names of the base classes; None: all that are not novel.
        novel: Names of the novel classes; None: none.

    Raises:
        InputError: A file is broken, a picture is missing, or a name is not among the categories.
    """
    contents = {split: read_annotations(files[split], OWN_KEYS) for split in _SPLITS}
    for split in _SPLITS:
        _require_pictures(contents[split], files[split], pictures[split])
    counts = {split: _boxes_by_name(contents[split]) for split in _SPLITS}
    classes, notes = _choose(contents, counts, files["val"], base, novel)
    require_names(contents["train"], classes.base, files["train"])
    require_names(contents["val"], classes.base, files["val"])
    require_names(contents["val"], classes.novel, files["val"])
    same = _same_pictures(contents, pictures)
    sound, faults = _quarantined(contents, files)
    if same:
        faults.append(f"{len(same)} pictures are in train and in val: {listed(same)}")
    names = {category["id"]: category["name"] for category in contents["train"]["categories"]}
    sides = _sides(sound["train"], {key for key, name in names.items() if name in classes.base})
    if not sides:
        raise InputError(f"no box can be learned from: {'; '.join(faults)}", file=files["train"], mend="mend the boxes")
    return OwnSet(
        classes=classes,
        images={split: len(content["images"]) for split, content in contents.items()},
        boxes={split: Counter({n: counts[split][n] for n in (*classes.base, *classes.novel)}) for split in _SPLITS},
        faults=faults,
        notes=notes + _name_notes(classes) + _count_notes(classes, counts),
        sides=sides,
    )


def _require_pictures(content: Json, file: Path, folder: Path) -> None:
    if not content["images"]:
        raise InputError("the file lists no image", file=file, key="images", mend="give a file with images")
    missing = [image["file_name"] for image in content["images"] if not (folder / image["file_name"]).is_file()]
    if missing:
        shown = listed(missing[:_SHOWN])
        raise InputError(
            f"{len(missing)} of the {len(content['images'])} pictures of {file.name} are not there, such as {shown}",
            file=folder,
            mend="give the folder that the file names start from, or take the pictures out of the file",
        )


def _boxes_by_name(content: Json) -> Counter[str]:
    names = {category["id"]: category["name"] for category in content["categories"]}
    return Counter(names[annotation["category_id"]] for annotation in content["annotations"])


def _choose(
    contents: dict[str, Json],
    counts: dict[str, Counter[str]],
    val: Path,
    base: Sequence[str] | None,
    novel: Sequence[str] | None,
) -> tuple[OwnClasses, list[str]]:
    """Return the classes, in the order of the validation file's ids where the user names none, and what is left out."""
    categories = sorted(contents["val"]["categories"], key=lambda category: category["id"])
    offered = [c["name"] for c in categories if counts["train"][c["name"]] + counts["val"][c["name"]]]
    novel = list(novel or [])
    base = [name for name in offered if name not in novel] if base is None else list(base)
    if not base:
        raise InputError("no class is left for training", file=val, key="categories", mend="name base classes")
    twice = [name for name, count in Counter([*base, *novel]).items() if count > 1]
    if twice:
        raise InputError(f"more than once in base and novel: {listed(twice)}", mend="name each class once")
    everything = {category["name"] for content in contents.values() for category in content["categories"]}
    left_out = sorted(everything - {*base, *novel})
    notes = [f"left out, with their boxes: {listed(left_out)}"] if left_out else []
    return OwnClasses(base=base, novel=novel), notes


def _same_pictures(contents: dict[str, Json], pictures: dict[str, Path]) -> list[str]:
    """Return the pictures that both files list; copies under another name are found by the gate, which reads them."""
    train, val = (
        {(pictures[split] / image["file_name"]).resolve() for image in contents[split]["images"]} for split in _SPLITS
    )
    return sorted(path.name for path in train & val)


def _name_notes(classes: OwnClasses) -> list[str]:
    odd = [name for name in (*classes.base, *classes.novel) if "_" in name or name != name.lower()]
    return (
        [
            f"CLIP reads names as words: {listed(odd)} would be recognised better in lower case and with spaces; "
            "rename the categories of both files"
        ]
        if odd
        else []
    )


def _count_notes(classes: OwnClasses, counts: dict[str, Counter[str]]) -> list[str]:
    untrained = [name for name in classes.base if not counts["train"][name]]
    unmeasured = [name for name in (*classes.base, *classes.novel) if not counts["val"][name]]
    hidden = sum(counts["train"][name] for name in classes.novel)
    lines = {
        f"base classes without a training box: {listed(untrained)}": untrained,
        f"classes without a box in val, which cannot be measured: {listed(unmeasured)}": unmeasured,
        f"{hidden} training boxes of novel classes are kept from training": hidden,
    }
    return [line for line, holds in lines.items() if holds]


def _quarantined(contents: dict[str, Json], files: dict[str, Path]) -> tuple[dict[str, Json], list[str]]:
    """Return the sound records, and one line for each kind of bad ones; nothing is written."""
    sound, faults = {}, []
    for split, content in contents.items():
        rejects = Rejects(f"{split}{SUFFIX}", limit=1.0)
        sound[split] = quarantine_annotations(content, files[split], rejects)
        faults += [f"{files[split]}: {count} x {reason}" for reason, count in rejects.counts().items()]
    return sound, faults


def _sides(content: Json, ids: set[int]) -> list[float]:
    shorter = {image["id"]: min(image["width"], image["height"]) for image in content["images"]}
    return [
        math.sqrt(a["bbox"][2] * a["bbox"][3]) / shorter[a["image_id"]]
        for a in content["annotations"]
        if a["category_id"] in ids
    ]
