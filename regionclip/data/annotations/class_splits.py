"""Splits of a data set by a choice of classes: of COCO and others in its form, and of LVIS.

COCO has 48 base and 17 novel classes, or all 80 as base; of LVIS the rare ones are novel, or all are base.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.annotations.annotation_files import (
    LVIS_LISTS,
    DerivedSplit,
    Json,
    class_name,
    keep_categories,
    listed,
    names_with_boxes,
    read_boxes,
    require_boxes,
)
from regionclip.errors import InputError
from regionclip.text.class_names import COCO_80, COCO_ALL65, COCO_BASE, COCO_NOVEL, clean_lvis_name

if TYPE_CHECKING:
    from regionclip.data.rejects import Rejects
    from regionclip.params.data import DataSet, OwnClasses, SetFiles

_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = dict(zip(COCO_80, (number for number in range(1, 91) if number not in _UNUSED_IDS), strict=True))
"""Class name -> category id in COCO's own files."""

_GROUPS = {"base": COCO_BASE, "novel": COCO_NOVEL, "remaining": tuple(n for n in COCO_80 if n not in COCO_ALL65)}
_KEPT = {
    "open_vocabulary": {"train": ("base",), "val": ("base", "novel")},
    "supervised": {"train": ("base", "novel", "remaining"), "val": ("base", "novel", "remaining")},
}
RARE = "r"
_FREQUENCIES = {"f": "frequent", "c": "common", RARE: "rare"}


def coco_splits(files: SetFiles, classes: str | OwnClasses, rejects: Rejects | None = None) -> Iterator[DerivedSplit]:
    """Yield "val" and "train": of COCO, or of the user's own data.

    Args:
        files: Where annotations and pictures are.
        classes: See ``regionclip.params.data.DataSet``.
        rejects: Takes the bad records; None: one is an error.

    Raises:
        InputError: A file is broken, lists a name that is no COCO class where it must be, or lacks classes or boxes of
            its split.
    """
    if isinstance(classes, str) and classes in _KEPT:
        return _official_splits(files, classes, rejects)
    return _own_splits(files, classes, rejects)


def _official_splits(files: SetFiles, classes: str, rejects: Rejects | None) -> Iterator[DerivedSplit]:
    """Yield "val" and "train" with COCO's category ids.

    Taken are instances_{train,val}2017.json and what others derived from them, told by content: 48, 65 or 80 categories
    (``*_seen_2``, ``*_all_2``, ``*_oriorder``, ``*_65_cat``, ``ovd_ins_*_{b,all}``), images filtered or not, categories
    with word vectors, ids renumbered. The open-vocabulary files drop images without annotation; COCO-80 keeps them.
    """
    for split in ("val", "train"):
        path = Path(getattr(files, f"instances_{split}"))
        source = read_boxes(path)
        content = source.sound(rejects)
        present = {category["name"]: category["id"] for category in content["categories"]}
        if unknown := [name for name in present if name not in COCO_IDS]:
            meant = next((name for name in COCO_IDS if _plain(name) == _plain(unknown[0])), None)
            mend = f"write '{meant}', as COCO does" if meant else "give a file made from COCO 2017"
            raise InputError(f"{listed(unknown)}: no class of COCO", file=path, key="categories", mend=mend)
        content = _renumbered(content, {identity: COCO_IDS[name] for name, identity in present.items()})
        groups = _KEPT[classes][split]
        together = " and ".join(groups)
        for group in groups:
            if missing := [name for name in _GROUPS[group] if name not in present]:
                problem = f"the file lacks {len(missing)} of the {len(_GROUPS[group])} {group} classes"
                mend = f"give a file with the {together} classes"
                raise InputError(f"{problem}: {listed(missing)}", file=path, key="categories", mend=mend)
            require_boxes(content, group, _GROUPS[group], path, f"give a file with boxes of the {together} classes")
        ids = {COCO_IDS[name] for group in groups for name in _GROUPS[group]}
        kept = keep_categories(content, ids, keep_empty=classes == "supervised")
        yield DerivedSplit(split, source, Path(getattr(files, f"images_{split}")), kept)


def _own_splits(files: SetFiles, classes: str | OwnClasses, rejects: Rejects | None) -> Iterator[DerivedSplit]:
    """Yield "val" and "train" with the category ids of the validation file.

    Categories are told by name, so the two files may number and order them as they like; those that ``classes`` does
    not name go, with their boxes; ``all`` are those of which the validation file has a box. "train" keeps the boxes of
    base classes, and with novel classes only the images that have one: on the others an unlabelled novel object would
    be learned as background. "val" keeps every image.
    """
    val_ids: dict[str, int] = {}
    base, novel = ([], []) if isinstance(classes, str) else (classes.base, classes.novel)
    for split in ("val", "train"):
        path = Path(getattr(files, f"instances_{split}"))
        source = read_boxes(path)
        content = source.sound(rejects)
        if not base:
            boxed = names_with_boxes(content)
            base = [category["name"] for category in content["categories"] if category["name"] in boxed]
        if not base:
            raise InputError(
                "there is no box of any class", file=path, key="annotations", mend="give a file with boxes"
            )
        groups = [base, novel] if split == "val" else [base]
        for group in groups:
            require_names(content, group, path)
        own_ids = {category["name"]: category["id"] for category in content["categories"]}
        val_ids = val_ids or own_ids
        ids = {own_ids[name]: val_ids[name] for group in groups for name in group}
        kept = keep_categories(content, set(ids), keep_empty=split == "val" or not novel)
        yield DerivedSplit(split, source, Path(getattr(files, f"images_{split}")), _renumbered(kept, ids))


def _renumbered(content: Json, new_ids: dict[int, int]) -> Json:
    """Give categories other ids, and their order; what else a file says of them goes, such as OVR-CNN's word vectors.

    So does ``frequency``, which would tell LVIS's classes.
    """
    categories = [
        {key: category[key] for key in ("supercategory", "id", "name") if key in category}
        | {"id": new_ids[category["id"]]}
        for category in content["categories"]
    ]
    return content | {
        "annotations": [a | {"category_id": new_ids[a["category_id"]]} for a in content["annotations"]],
        "categories": sorted(categories, key=lambda category: category["id"]),
    }


def require_names(content: Json, names: Collection[str], path: Path) -> None:
    """Check that an annotation file has the classes; a name that differs only in its spelling is shown.

    Raises:
        InputError: A name is not among the categories, or there is no box of any of them.
    """
    present = {category["name"] for category in content["categories"]}
    missing = [name for name in names if name not in present]
    if missing:
        near = difflib.get_close_matches(_plain(missing[0]), {_plain(name) for name in present}, n=1, cutoff=0.8)
        meant = [name for name in present if near and _plain(name) == near[0]]
        mend = f"write '{meant[0]}', as the file does" if meant else f"the file has {listed(sorted(present))}"
        raise InputError(f"the file lists no class {listed(missing)}", file=path, key="categories", mend=mend)
    if names and not names_with_boxes(content).intersection(names):
        crowds = sum(annotation["iscrowd"] for annotation in content["annotations"])
        problem = f"there is no box of {listed(names)}" + (f" ({crowds} boxes are marked as crowds)" if crowds else "")
        raise InputError(problem, file=path, key="annotations", mend="give a file with their boxes")


def _plain(name: str) -> str:
    """Return a name without what spellings differ in: case, underscores, hyphens, parentheses."""
    return " ".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def lvis_splits(files: SetFiles, classes: str, rejects: Rejects | None = None) -> Iterator[DerivedSplit]:
    """Yield "val", complete, and "train", base classes without images that have no annotation.

    All of LVIS's keys stay. What an image lists as absent or as not exhaustively annotated is cut to the classes that
    the file keeps: that a rare object is there, or is not, must not be known in training. Taken as ``instances_train``
    are also the files of Detic (``*_norare``), ovdet (``*_train_base``) and CLIPSelf (``*_seen_1203_cat``).
    The official loader drops images without annotations in the test too, sorts images by their number of annotations
    and keeps at most 500 of an image (``evaluation/lvis_evaluation.py``); "val" here is complete.

    Args:
        files: Where annotations and pictures are.
        classes: Which are base, see ``regionclip.params.data.DataSet``.
        rejects: Takes the bad records; None: one is an error.

    Raises:
        InputError: A file is broken, the two files differ in their classes, or one lacks boxes of its split.
    """
    val_file, train_file = Path(files.instances_val), Path(files.instances_train)
    source = read_boxes(val_file, "lvis")
    val = _by_address(source.sound(rejects), val_file)
    known = {category["id"]: category for category in val["categories"]}
    _require_boxes(val, tuple(_FREQUENCIES), val_file)
    yield DerivedSplit("val", source, Path(files.images_val), val)
    source = read_boxes(train_file, "lvis")
    train = _by_address(source.sound(rejects), train_file)
    frequencies = tuple(f for f in _FREQUENCIES if classes == "supervised" or f != RARE)
    ids = {identity for identity, category in known.items() if category["frequency"] in frequencies}
    _require_same_classes(train, known, ids, train_file)
    _require_boxes(train, frequencies, train_file)
    kept = keep_categories(train, ids, keep_empty=False)
    for key in LVIS_LISTS:
        kept["images"] = [image | {key: [i for i in image[key] if i in ids]} for image in kept["images"]]
    yield DerivedSplit("train", source, Path(files.images_train), kept)


def _by_address(content: Json, path: Path) -> Json:
    """Check frequencies and names; name pictures by address only, as some derived files add a ``file_name``."""
    wrong = [c["name"] for c in content["categories"] if str(c.get("frequency")) not in _FREQUENCIES]
    if wrong:
        mend = "give LVIS v1's own categories"
        raise InputError(f"{listed(wrong)}: neither f, c nor r", file=path, key="frequency", mend=mend)
    cleaned: dict[str, str] = {}
    for category in content["categories"]:
        twin = cleaned.setdefault(clean_lvis_name(category["name"]), category["name"])
        if twin != category["name"]:
            problem = f"{listed([twin, category['name']])} are one name once underscores and parentheses are gone"
            raise InputError(problem, file=path, key="categories", mend="rename one of them")
    images = [
        {key: value for key, value in image.items() if key != "file_name" or not image.get("coco_url")}
        for image in content["images"]
    ]
    return content | {"images": images}


def _require_same_classes(train: Json, classes: dict[int, Json], wanted: Collection[int], path: Path) -> None:
    """Each class of the training file is that of the other file, and all the wanted ones are there."""
    facts = ("name", "frequency")
    other = [
        category["name"]
        for category in train["categories"]
        if any(classes.get(category["id"], {}).get(fact) != category[fact] for fact in facts)
    ]
    present = {category["id"] for category in train["categories"]}
    missing = [classes[identity]["name"] for identity in sorted(wanted) if identity not in present]
    for names, problem in (
        (other, "not the class that the validation file has under this id"),
        (missing, "base classes that the training file lacks"),
    ):
        if names:
            mend = "give train and val of one LVIS"
            raise InputError(f"{listed(names)}: {problem}", file=path, key="categories", mend=mend)


def _require_boxes(content: Json, frequencies: tuple[str, ...], path: Path) -> None:
    mend = "give LVIS's own file, or one made from it that keeps these boxes"
    for frequency in frequencies:
        names = [category["name"] for category in content["categories"] if category["frequency"] == frequency]
        require_boxes(content, _FREQUENCIES[frequency], names, path, mend)


def class_list(categories: list[Json], about: DataSet) -> list[Json]:
    """Return the entries of classes.json for the categories of "val"."""
    novel = () if isinstance(about.classes, str) else about.classes.novel
    if about.classes == "open_vocabulary":
        rare = [category["name"] for category in categories if category.get("frequency") == RARE]
        novel = COCO_NOVEL if about.format == "coco" else rare
    entries = []
    for category in sorted(categories, key=lambda category: category["id"]):
        entry = {"id": category["id"], "name": class_name(category)}
        entry["split"] = "novel" if category["name"] in novel else "base"
        entries.append(entry | {key: category[key] for key in ("frequency",) if key in category})
    return entries
