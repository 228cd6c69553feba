"""COCO's splits from its annotation files: 48 base and 17 novel classes, or all 80 as base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.annotation_files import (
    Json,
    keep_categories,
    listed,
    names_with_boxes,
    read_annotations,
    without_empty_boxes,
)
from regionclip.data.derived_split import DerivedSplit
from regionclip.data.layout import ClassSplit
from regionclip.errors import InputError
from regionclip.text.class_names import COCO_80, COCO_ALL65, COCO_BASE, COCO_NOVEL

if TYPE_CHECKING:
    from regionclip.params import CocoFiles

_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = dict(zip(COCO_80, (number for number in range(1, 91) if number not in _UNUSED_IDS), strict=True))
"""Class name -> category id in COCO's own files."""

_GROUPS = {"base": COCO_BASE, "novel": COCO_NOVEL, "remaining": tuple(n for n in COCO_80 if n not in COCO_ALL65)}
_KEPT = {
    "open_vocabulary": {"train": ("base",), "val": ("base", "novel")},
    "supervised": {"train": ("base", "novel", "remaining"), "val": ("base", "novel", "remaining")},
}
_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}


def coco_splits(files: CocoFiles) -> Iterator[DerivedSplit]:
    """Yield "val" and "train" with COCO's category ids.

    Taken are instances_{train,val}2017.json and what others derived from them, told by content: 48, 65 or 80 categories
    (``*_seen_2``, ``*_all_2``, ``*_oriorder``, ``*_65_cat``, ``ovd_ins_*_{b,all}``), images filtered or not, categories
    with word vectors, ids renumbered. The open-vocabulary files drop images without annotation; COCO-80 keeps them.
    Training boxes without area are dropped last.

    Raises:
        InputError: A file is broken, lists a name that is no COCO class, or lacks classes or boxes of its split.
    """
    for split in ("val", "train"):
        path = Path(getattr(files, f"instances_{split}"))
        content = _with_coco_categories(read_annotations(path, _KEYS), path)
        groups = _KEPT[files.classes][split]
        _require_groups(content, groups, path)
        ids = {COCO_IDS[name] for group in groups for name in _GROUPS[group]}
        kept = keep_categories(content, ids, keep_empty=files.classes == "supervised")
        written = without_empty_boxes(kept) if split == "train" else kept
        yield DerivedSplit(split, path, Path(getattr(files, f"images_{split}")), content, kept, written)


def coco_class_list(categories: list[Json], classes: ClassSplit) -> list[Json]:
    """Return the entries of classes.json for the categories of "val"."""
    novel = COCO_NOVEL if classes == "open_vocabulary" else ()
    entries = [
        {"id": c["id"], "name": c["name"], "split": "novel" if c["name"] in novel else "base"} for c in categories
    ]
    return sorted(entries, key=lambda entry: entry["id"])


def _with_coco_categories(content: Json, path: Path) -> Json:
    """Write categories as COCO does, in the order of its ids; the word vectors of OVR-CNN's files go."""
    unknown = [category["name"] for category in content["categories"] if category["name"] not in COCO_IDS]
    if unknown:
        raise InputError(
            f"{listed(unknown)}: no class of COCO", file=path, key="categories", mend="give a file made from COCO 2017"
        )
    new_ids = {category["id"]: COCO_IDS[category["name"]] for category in content["categories"]}
    categories = [
        {key: category[key] for key in ("supercategory",) if key in category}
        | {"id": COCO_IDS[category["name"]], "name": category["name"]}
        for category in content["categories"]
    ]
    return content | {
        "annotations": [a | {"category_id": new_ids[a["category_id"]]} for a in content["annotations"]],
        "categories": sorted(categories, key=lambda category: category["id"]),
    }


def _require_groups(content: Json, groups: tuple[str, ...], path: Path) -> None:
    present, boxed = {category["name"] for category in content["categories"]}, names_with_boxes(content)
    for group in groups:
        missing = [name for name in _GROUPS[group] if name not in present]
        if missing:
            raise InputError(
                f"the file lacks {len(missing)} of the {len(_GROUPS[group])} {group} classes: {listed(missing)}",
                file=path,
                key="categories",
                mend=f"give a file with the {' and '.join(groups)} classes",
            )
        if not boxed.intersection(_GROUPS[group]):
            raise InputError(
                f"there is no box of any {group} class ({listed(_GROUPS[group])})",
                file=path,
                key="annotations",
                mend=f"give a file with boxes of the {' and '.join(groups)} classes",
            )
