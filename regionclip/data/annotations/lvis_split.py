"""LVIS's splits from its annotation files: rare classes as novel and the others as base, or all as base."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.annotations.annotation_files import (
    LVIS_LISTS,
    DerivedSplit,
    Json,
    keep_categories,
    listed,
    read_boxes,
    require_boxes,
)
from regionclip.errors import InputError
from regionclip.text.class_names import clean_lvis_name

if TYPE_CHECKING:
    from regionclip.data.rejects import Rejects
    from regionclip.params import SetFiles

RARE = "r"
_FREQUENCIES = {"f": "frequent", "c": "common", RARE: "rare"}


def lvis_splits(files: SetFiles, classes: str, rejects: Rejects | None = None) -> Iterator[DerivedSplit]:
    """Yield "val", complete, and "train", base classes without images that have no annotation.

    All of LVIS's keys stay. What an image lists as absent or as not exhaustively annotated is cut to the classes that
    the file keeps: that a rare object is there, or is not, must not be known in training. Taken as ``instances_train``
    are also the files of Detic (``*_norare``), ovdet (``*_train_base``) and CLIPSelf (``*_seen_1203_cat``).
    The official loader drops images without annotations in the test too, sorts images by their number of annotations
    and keeps at most 500 of an image (``evaluation/lvis_evaluation.py``); "val" here is complete.

    Args:
        files: Where annotations and pictures are.
        classes: Which are base, see ``regionclip.params.DataSet``.
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
