"""A user's own COCO-style data set: which classes it has, what is in it, and what is wrong with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regionclip.data.annotations.annotation_files import Boxes, Json, is_there, listed, picture_name, read_boxes
from regionclip.data.annotations.class_splits import require_names
from regionclip.errors import InputError
from regionclip.params.data import OwnClasses

_SPLITS = ("train", "val")
_SHOWN = 3  # missing pictures that a message names


@dataclass(frozen=True)
class OwnSet:
    """What was found in the two annotation files.

    Attributes:
        classes: Names of the base and novel classes.
        images: Split -> number of images.
        boxes: Split -> class -> number of boxes.
        faults: Records that are set aside and pictures in both files, one line a kind.
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
    found = {split: read_boxes(files[split]) for split in _SPLITS}
    faults = [line for split in _SPLITS for line in _fault_lines(found[split])]
    contents = {split: boxes.content for split, boxes in found.items()}
    for split in _SPLITS:
        _require_pictures(found[split], pictures[split])
    counts = {}
    for split, content in contents.items():
        named = {category["id"]: category["name"] for category in content["categories"]}
        counts[split] = Counter(named[box["category_id"]] for box in content["annotations"] if not box["iscrowd"])
    if not counts["train"].total():
        why = "; ".join([*_fault_lines(found["train"]), *_crowd_notes({"train": found["train"]})]) or "there is none"
        raise InputError(f"no box can be learned from: {why}", file=files["train"], mend="mend the boxes")
    classes, notes = _choose(contents, counts, files["val"], base, novel)
    for split, names in (("train", classes.base), ("val", classes.base), ("val", classes.novel)):
        require_names(contents[split], names, files[split])
    # Copies under another name are found by the gate, which reads them.
    train, val = (
        {(pictures[split] / picture_name(image)).resolve() for image in contents[split]["images"]} for split in _SPLITS
    )
    if same := sorted(path.name for path in train & val):
        faults.append(f"{len(same)} pictures are in train and in val: {listed(same)}")
    return OwnSet(
        classes=classes,
        images={split: len(contents[split]["images"]) for split in _SPLITS},
        boxes={split: Counter({n: counts[split][n] for n in (*classes.base, *classes.novel)}) for split in _SPLITS},
        faults=faults,
        notes=notes + _class_notes(classes, counts) + _crowd_notes(found),
        sides=_sides(contents["train"], classes.base),
    )


def _fault_lines(boxes: Boxes) -> list[str]:
    """Return one line for each kind of bad record: how many there are, and the first of them."""
    first = {fault.rule.problem: fault for fault in reversed(boxes.faults)}
    counts = Counter(fault.rule.problem for fault in boxes.faults)
    shown = {why: f"{fault.record}, {fault.rule.key} {fault.value}".rstrip() for why, fault in first.items()}
    return [f"{boxes.file}: {count} x {why} (such as {shown[why]})" for why, count in counts.most_common()]


def _require_pictures(boxes: Boxes, folder: Path) -> None:
    images, file = boxes.content["images"], boxes.file
    if not images:
        problem = "; ".join(["the file lists no image that can be used", *_fault_lines(boxes)])
        raise InputError(problem, file=file, key="images", mend="give a file with images")
    missing = [picture_name(image) for image in images if not is_there(folder, image)]
    if missing:
        some = listed(missing[:_SHOWN])
        problem = f"{len(missing)} of the {len(images)} pictures of {file.name} are not there, such as {some}"
        mend = "give the folder that the file names start from, or take the pictures out of the file"
        raise InputError(problem, file=folder, mend=mend)


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


def _class_notes(classes: OwnClasses, counts: dict[str, Counter[str]]) -> list[str]:
    names = (*classes.base, *classes.novel)
    plain = {name: name.lower().replace("_", " ") for name in names}
    twice = Counter(plain.values())
    odd = [name for name, words in plain.items() if words != name and twice[words] == 1]
    better = "would be recognised better in lower case and with spaces; rename the categories of both files"
    untrained = [name for name in classes.base if not counts["train"][name]]
    unmeasured = [name for name in names if not counts["val"][name]]
    hidden = sum(counts["train"][name] for name in classes.novel)
    lines = {
        f"CLIP reads names as words: {listed(odd)} {better}": odd,
        f"base classes without a training box: {listed(untrained)}": untrained,
        f"classes without a box in val, which cannot be measured: {listed(unmeasured)}": unmeasured,
        f"{hidden} training boxes of novel classes are kept from training": hidden,
    }
    return [line for line, holds in lines.items() if holds]


def _crowd_notes(found: dict[str, Boxes]) -> list[str]:
    lines = []
    for boxes in found.values():
        crowds = [box for box in boxes.content["annotations"] if box["iscrowd"]]
        if crowds:
            ignored = sum(box.get("ignore", 0) for box in crowds)
            what = f"{len(crowds)} boxes are crowds, {ignored} of them by the mark 'ignore'"
            lines.append(f"{boxes.file}: {what}: neither trained on nor measured")
    return lines


def _sides(content: Json, names: Sequence[str]) -> list[float]:
    shorter = {image["id"]: min(image["width"], image["height"]) for image in content["images"]}
    ids = {category["id"] for category in content["categories"] if category["name"] in names}
    return [
        math.sqrt(a["bbox"][2] * a["bbox"][3]) / shorter[a["image_id"]]
        for a in content["annotations"]
        if a["category_id"] in ids and not a["iscrowd"]
    ]
