"""Annotation files of boxes, COCO's and LVIS's: one reading, in which each rule of what is sound stands once."""

from __future__ import annotations

import itertools
import math
import os
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from faster_coco_eval.core import mask as checked_mask

from regionclip.data.layout import Split, read_classes
from regionclip.data.pictures import inside
from regionclip.data.sources import mend_missing
from regionclip.errors import DataCheckFailed, InputError
from regionclip.files import read_json
from regionclip.text.class_names import clean_lvis_name

if TYPE_CHECKING:
    from regionclip.data.rejects import Rejects

Json = dict[str, Any]
Kind = Literal["coco", "lvis"]

BORDER = 1.0
"""Pixels by which a box may leave its image: COCO rounds boxes to 1/100, and some leave by a fraction of a pixel."""

LVIS_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")
"""Keys of LVIS's images: classes that are not there, and classes of which not all objects are annotated."""

FACTS = ("name", "size", "mask")
_LISTED = 12  # names that a message lists
_LARGEST_ID, _LARGEST_SIDE = 2**53, 2**31 - 1  # whole numbers that floats keep; pixels
_MARKS = {"0": 0, "false": 0, "": 0, "1": 1, "true": 1}
_REPR = reprlib.Repr()  # bounded, whatever the value is
_REPR.maxstring = 60
_IMAGE, _BOX = "mend the image's record, or take it out", "mend the box, or take it out"


class Rule(NamedTuple):
    """The key at fault of a record that breaks it, what is wrong, and what to do about it."""

    key: str
    problem: str
    mend: str


NO_OBJECT = Rule("id", "the record is no object", "write it as the others")
NO_ID = Rule("id", "there is no id", "give it one that no other record has")
ID_TWICE = Rule("id", "an id occurs twice", "keep one of the records")
NO_WIDTH, NO_HEIGHT = (Rule(side, f"no {side} in whole pixels", _IMAGE) for side in ("width", "height"))
NO_NAME = Rule("file_name", "there is no file name", _IMAGE)
OUTSIDE = Rule(
    "file_name", "the file name leads out of its folder, or no file can have it",
    "name the picture from the pictures' folder on, with / between folders",
)  # fmt: skip
NAME_TWICE = Rule("file_name", "an image occurs twice", "give its boxes to one of the records")
NO_LIST, NO_LIST_2 = (Rule(key, f"{key} is no list of categories", _IMAGE) for key in LVIS_LISTS)
NO_FILE = Rule("file_name", "the image file does not exist", "fetch the image again, or take its record out")
NOT_DECODED = Rule("file_name", "the image does not decode", NO_FILE.mend)
OTHER_SIZE = Rule("file_name", "the image has another size than its record", "mend the record, or fetch the image")
NO_IMAGE = Rule("image_id", "there is no such image", _BOX)
ORPHAN = Rule("image_id", "its image was set aside", "mend the image")
NO_CATEGORY = Rule("category_id", "there is no such category", _BOX)
NO_BOX = Rule("bbox", "the box is not a list of four numbers", _BOX)
NOT_FINITE = Rule("bbox", "the box holds a value that is not finite", _BOX)
NEGATIVE = Rule("bbox", "the box has a negative size", _BOX)
EMPTY = Rule("bbox", "the box is empty", _BOX)
BEYOND = Rule("bbox", "the box leaves its image", _BOX)
BESIDE = Rule("bbox", "the box has no pixel of its image", _BOX)
NO_CROWD, NO_IGNORE = (Rule(key, f"{key} is neither 0 nor 1", _BOX) for key in ("iscrowd", "ignore"))
NO_MASK = Rule("segmentation", "there is no mask", _BOX)
ABSENT = Rule("category_id", "the class is annotated in an image that lists it as absent", _BOX)

RULES: dict[str, tuple[Rule, ...]] = {
    "images": (NO_OBJECT, NO_ID, ID_TWICE, NO_WIDTH, NO_HEIGHT, NO_NAME, OUTSIDE, NAME_TWICE, NO_LIST, NO_LIST_2),
    "annotations": (
        NO_OBJECT, NO_ID, ID_TWICE, NO_IMAGE, ORPHAN, NO_CATEGORY, NO_BOX, NOT_FINITE, NEGATIVE, EMPTY, BEYOND, BESIDE,
        NO_CROWD, NO_IGNORE, NO_MASK, ABSENT,
    ),
}  # fmt: skip
"""Part of the file -> the rules that its records keep; quarantine, gate, ``data init`` and loaders all ask these."""


class Fault(NamedTuple):
    """A record that breaks a rule.

    Attributes:
        part: "images" or "annotations".
        record: Its name, such as "annotation 7" or, where the id is at fault, "annotations[3]".
        rule: The first rule that it breaks.
        value: What it has there, as Python writes it, so that texts and numbers are told apart; "" for nothing.
        file: Where the fault is, if that is not the annotation file.
    """

    part: str
    record: str
    rule: Rule
    value: str = ""
    file: Path | None = None

    def error(self, file: str | Path) -> InputError:
        """Return the fault as an error that names the file, the record, the key and the mend."""
        problem = f"{self.rule.problem} ({self.value})" if self.value else self.rule.problem
        at = self.file or file
        return InputError(problem, file=at, record=self.record, key=self.rule.key, mend=self.rule.mend)


@dataclass(frozen=True)
class Boxes:
    """What an annotation file holds.

    Attributes:
        file: The file, for messages.
        content: Its content with the sound records only. Ids are whole numbers; an image has its size in pixels; a box
            has ``area``, and ``iscrowd`` 1 also where it is marked ``ignore``.
        listed: How many images and annotations the file lists.
        faults: The other records, images first.
    """

    file: Path
    content: Json
    listed: dict[str, int]
    faults: list[Fault]

    def sound(self, rejects: Rejects | None = None) -> Json:
        """Return the content; what is not in it goes to ``rejects``.

        Raises:
            InputError: A record has a fault and nothing takes it, or too many of the images or annotations have one.
        """
        for fault in self.faults:
            if rejects is None:
                raise fault.error(self.file)
            rejects.add(fault.error(self.file))
        for part, count in self.listed.items() if rejects is not None else ():
            rejects.check(sum(fault.part == part for fault in self.faults), count, self.file)
        return self.content

    def counts(self) -> dict[str, int]:
        """Return how many annotations break each rule, by the rule's words."""
        return dict(Counter(fault.rule.problem for fault in self.faults if fault.part == "annotations"))


class DerivedSplit(NamedTuple):
    """A split of a detection set.

    Attributes:
        name: "train" or "val".
        source: The annotation file that it is made from.
        pictures: The folder that its pictures' names start from.
        content: What the split's classes leave of the sound records.
    """

    name: Split
    source: Boxes
    pictures: Path
    content: Json


def read_boxes(
    path: str | Path,
    kind: Kind = "coco",
    *,
    facts: Collection[str] = FACTS,
    shown: Path | None = None,
    without: Collection[str] = (),
) -> Boxes:
    """Read an annotation file.

    Whatever tools write is understood where it has one meaning: ids of any kind (1, 1.0 and "1" are one id; texts and
    huge numbers are numbered anew), marks as 0, true or "1", an ``area`` that is none (the box's is taken), names that
    are numbers or have spaces around them.

    Args:
        path: The file.
        kind: LVIS's files have masks, frequencies and lists of classes of each image too.
        facts: What is asked for: "name" and "size" of images, "mask" of each of LVIS's boxes.
        shown: The file that messages name, where another one is read in its place.
        without: Keys that are left out, such as "segmentation": masks take most of the memory.

    Raises:
        InputError: The file is absent or not JSON, a list is missing, or a category has no id or name of its own.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("the file does not exist", file=path, mend=mend_missing(path, "mend the path"))
    return sort_records(read_json(path, without), shown or path, kind, facts)


def sort_records(content: Any, file: Path, kind: Kind, facts: Collection[str] = FACTS) -> Boxes:
    """Tell the sound records of an annotation file's content from the others; see `read_boxes`."""
    for part in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise InputError("the list is missing", file=file, key=part, mend="give an annotation file of boxes")
    categories = _categories(content["categories"], file)
    numbers = {key: category["id"] for key, category in categories.items()}
    names: set[str] = set()

    def image(record: Json) -> Json:
        return _image(record, facts, names, numbers if kind == "lvis" else None)

    images, faults = _sorted(content["images"], "images", image)
    listed = {_key(record.get("id")) for record in content["images"] if isinstance(record, dict)}

    def annotation(record: Json) -> Json:
        key, category = _key(record.get("image_id")), numbers.get(_key(record.get("category_id")))
        if key not in images:
            known = key is not None and key in listed
            raise _Unsound(ORPHAN) if known else _Unsound(NO_IMAGE, record.get("image_id"))
        if category is None:
            raise _Unsound(NO_CATEGORY, record.get("category_id"))
        ids = {"image_id": images[key]["id"], "category_id": category}
        return _annotation(record, ids, images[key] if "size" in facts else None, kind, masks="mask" in facts)

    annotations, more = _sorted(content["annotations"], "annotations", annotation)
    parts = {"images": images, "annotations": annotations, "categories": categories}
    counts = {part: len(content[part]) for part in ("images", "annotations")}
    return Boxes(file, content | {part: list(found.values()) for part, found in parts.items()}, counts, faults + more)


class _Unsound(Exception):
    """A rule that a record breaks, and the value at fault."""


def _sorted(records: list[Any], part: str, clean: Callable[[Json], Json]) -> tuple[dict[Any, Json], list[Fault]]:
    """Return the sound records, cleaned and numbered, by what their ids are known by; and the faults of the others."""
    sound: dict[Any, Json] = {}
    faults: dict[str, Fault] = {}
    for place, record in enumerate(records):
        try:
            if not isinstance(record, dict):
                raise _Unsound(NO_OBJECT, record)
            key = _key(record.get("id"))
            if key is None or key in sound:
                raise _Unsound(NO_ID if key is None else ID_TWICE, record.get("id"))
            sound[key] = clean(record)
        except _Unsound as fault:
            rule, *values = fault.args
            name = "" if rule.key == "id" else f"{part[:-1]} {_shown(record['id'])}"
            name = f"{part}[{place}]" if not name or name in faults else name
            faults[name] = Fault(part, name, rule, *map(_shown, values))
    return _numbered(sound), list(faults.values())


def _numbered(records: dict[Any, Json]) -> dict[Any, Json]:
    """Give records whose ids are no whole numbers, or too large ones, the lowest numbers that are free."""
    taken = {key for key in records if type(key) is int and abs(key) <= _LARGEST_ID}
    free = (number for number in itertools.count(1) if number not in taken)
    return {key: _with(record, id=key if key in taken else next(free)) for key, record in records.items()}


def _with(record: Json, **values: Any) -> Json:
    """Return a record with these values; the same object where it has them."""
    changed = {key: value for key, value in values.items() if type(record.get(key)) is not type(value)}
    changed |= {key: value for key, value in values.items() if record.get(key) != value}
    return record | changed if changed else record


def _key(value: Any) -> int | str | None:
    """Return what an id is known by, None where it is none: tools write one id as 1, as 1.0 and as "1"."""
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str:
        value = value.strip()
        number = int(value) if value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20 else None
        return number if number is not None and str(number) == value else value or None
    return value if type(value) is int else None


def _categories(records: list[Any], file: Path) -> dict[Any, Json]:
    """Return the categories, names without spaces around them, by what their ids are known by."""
    found: dict[Any, Json] = {}
    for place, record in enumerate(records):
        record = record if isinstance(record, dict) else {}
        key, name = _key(record.get("id")), record.get("name")
        text = " ".join(str(name).split()) if type(name) in (str, int, float) else ""
        wrong = not text or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)
        if key is None or wrong:
            at, value = ("id", record.get("id")) if key is None else ("name", name)
            problem = f"a category needs an id and a name, got {_shown(value)}"
            raise InputError(problem, file=file, record=f"categories[{place}]", key=at, mend="mend the category")
        if key in found or any(text == other["name"] for other in found.values()):
            at = "id" if key in found else "name"
            problem = f"more than once: {listed([text if at == 'name' else record[at]])}"
            raise InputError(problem, file=file, record="categories", key=at, mend="keep one of each")
        found[key] = _with(record, name=text)
    return _numbered(found)


def _image(image: Json, facts: Collection[str], names: set[str], numbers: Mapping[Any, int] | None) -> Json:
    changes: Json = {}
    if "size" in facts:
        for rule in (NO_WIDTH, NO_HEIGHT):
            value = changes[rule.key] = _key(image.get(rule.key)) if type(image.get(rule.key)) is not str else None
            if value is None or not 1 <= value <= _LARGEST_SIDE:
                raise _Unsound(rule, image.get(rule.key))
    for rule in (NO_LIST, NO_LIST_2) if numbers is not None else ():
        if not isinstance(value := image.get(rule.key), list):
            raise _Unsound(rule, value)
        # Files that others cut to some classes still list the others, which says nothing here.
        changes[rule.key] = [numbers[key] for key in map(_key, value) if key in numbers]
    if "name" in facts:
        given = image.get("file_name") or image.get("coco_url")
        if not isinstance(given, str) or not given.strip():
            raise _Unsound(NO_NAME, image.get("file_name"))
        name = picture_name(image)
        try:
            inside(Path(), name)
        except InputError:
            raise _Unsound(OUTSIDE, name) from None
        if (plain := str(PurePosixPath(name))) in names:
            raise _Unsound(NAME_TWICE, name)
        names.add(plain)
    return _with(image, **changes)


def _annotation(record: Json, ids: Json, image: Json | None, kind: Kind, *, masks: bool) -> Json:
    """Return a sound annotation with its numbers; ``image`` is None where its size does not matter."""
    width, height = _sides(record.get("bbox"), image)
    marks = {}
    for rule in (NO_CROWD, NO_IGNORE):
        value = record.get(rule.key)
        known = _MARKS.get(value.strip().lower()) if type(value) is str else 0 if value is None else value
        if type(known) not in (int, float, bool) or known not in (0, 1):
            raise _Unsound(rule, value)
        marks[rule.key] = int(known)
    if kind == "lvis":
        if masks and not record.get("segmentation"):
            raise _Unsound(NO_MASK)
        if image is not None and ids["category_id"] in image[LVIS_LISTS[0]]:
            raise _Unsound(ABSENT, record["category_id"])
    # LVIS knows no crowds; what its records lack is not added.
    changes = {"iscrowd": max(marks.values())} if kind == "coco" or max(marks.values()) else {}
    changes |= {"ignore": marks["ignore"]} if "ignore" in record else {}
    area = record.get("area")
    if type(area) not in (int, float) or not 0 < area <= (width + 2 * BORDER) * (height + 2 * BORDER):
        changes["area"] = width * height
    return _with(record, **ids, **changes)


def _sides(box: Any, image: Json | None) -> tuple[float, float]:
    """Check a box and return its width and height in pixels."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise _Unsound(NO_BOX, box)
    left, top, width, height = box
    try:
        finite = all(map(math.isfinite, (*box, float(left) + width, float(top) + height, float(width) * height)))
    except OverflowError:
        finite = False
    if not finite:
        raise _Unsound(NOT_FINITE, box)
    if width < 0 or height < 0:
        raise _Unsound(NEGATIVE, box)
    # A product can vanish where no side does.
    if width * height == 0:
        raise _Unsound(EMPTY, box)
    if image is not None:
        for start, side, limit in ((left, width, image["width"]), (top, height, image["height"])):
            if max(-start, start + side - limit) > BORDER:
                raise _Unsound(BEYOND, box)
            if min(start + side, limit) <= max(start, 0):
                raise _Unsound(BESIDE, box)
    return width, height


def _shown(value: Any) -> str:
    return _REPR.repr(value)[:60]


def mask_problem(segmentation: Any, size: tuple[int, int]) -> str | None:
    """Return why a segmentation is no mask of its picture, None where it is one.

    Polygons of fewer than three points are nothing, as in MMDetection; of the others each number is finite.

    Args:
        segmentation: Polygons, or run lengths, compressed or not.
        size: Height and width of the picture.
    """
    if isinstance(segmentation, list):
        if not segmentation:
            return "the mask is empty"
        numbers = all(isinstance(p, list) and all(type(v) in (int, float) for v in p) for p in segmentation)
        if not numbers or not all(abs(value) < _LARGEST_SIDE for polygon in segmentation for value in polygon):
            return "the mask is no list of polygons"
        solid = any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation)
        return None if solid else "no polygon of the mask has three points"
    if not isinstance(segmentation, dict):
        return "there is no mask"
    counts = segmentation.get("counts")
    if segmentation.get("size") != list(size):
        return "the mask has another size than its image"
    if isinstance(counts, list):
        whole = all(type(count) is int and count >= 0 for count in counts) and sum(counts) == math.prod(size)
        return None if whole else "the mask's run lengths are not those of its image"
    try:
        checked_mask.area({"size": list(size), "counts": counts})
    except (RuntimeError, ValueError, TypeError, AttributeError):
        return "the mask's run lengths cannot be read"
    return None


def listed(names: Iterable[Any], most: int = _LISTED) -> str:
    """Return names as a message shows them: the first twelve, or ``most``, and how many there are more."""
    names = [f"'{name}'" for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def class_name(category: Json) -> str:
    """Return the name of a category's class: LVIS's as a person writes it, any other as the file does."""
    return clean_lvis_name(category["name"]) if "frequency" in category else category["name"]


def names_with_boxes(content: Json) -> set[str]:
    """Return the names of the categories that have an object; crowds are none."""
    used = {annotation["category_id"] for annotation in content["annotations"] if not annotation.get("iscrowd")}
    return {category["name"] for category in content["categories"] if category["id"] in used}


def require_boxes(content: Json, group: str, names: Collection[str], path: Path, mend: str) -> None:
    """Raise an InputError where no class of a group has an object."""
    if not names_with_boxes(content).intersection(names):
        problem = f"there is no box of any {group} class ({listed(names)})"
        raise InputError(problem, file=path, key="annotations", mend=mend)


def assert_no_novel(annotations_file: str | Path, classes_file: str | Path) -> int:
    """Refuse training annotations with a box of a class that is not base: open vocabulary's rule that must never break.

    A category is looked up by id and by name, so a file with other ids than classes.json cannot slip through.

    Args:
        annotations_file: COCO or LVIS JSON of a training set.
        classes_file: classes.json of the same data folder.

    Returns:
        The number of boxes, all of base classes.

    Raises:
        InputError: A file is absent or is not JSON, or a record breaks a rule.
        DataCheckFailed: A box is of a novel or unknown class.
    """
    known = {entry["id"]: (entry["name"], entry["split"]) for entry in read_classes(Path(classes_file))}
    content = read_boxes(annotations_file).sound()
    named = {category["id"]: class_name(category) for category in content["categories"]}
    wrong = {key: name for key, name in named.items() if known.get(key) != (name, "base")}
    for box in content["annotations"]:
        if (category := box["category_id"]) in wrong:
            what = "novel" if known.get(category) == (wrong[category], "novel") else "no base class"
            problem = f"a training box of class {category} '{wrong[category]}', which is {what} in {classes_file}"
            where = {"file": annotations_file, "record": f"annotation {box['id']}", "key": "category_id"}
            raise DataCheckFailed(problem, **where, mend="make the training annotations again from base classes only")
    return len(content["annotations"])


def keep_categories(content: Json, ids: Collection[int], *, keep_empty: bool) -> Json:
    """Drop categories, their annotations, and then the images left without any annotation (crowds count as one).

    Source: RegionCLIP ``data/datasets/coco_zeroshot_categories.py`` (after OVR-CNN), which makes ``ovd_ins_*.json`` so.

    Args:
        content: An annotation file.
        ids: Ids of the categories to keep.
        keep_empty: Keep the images without annotations, as the complete files of COCO and LVIS do.
    """
    annotations = [annotation for annotation in content["annotations"] if annotation["category_id"] in ids]
    seen = {annotation["image_id"] for annotation in annotations}
    return content | {
        "images": [image for image in content["images"] if keep_empty or image["id"] in seen],
        "annotations": annotations,
        "categories": [category for category in content["categories"] if category["id"] in ids],
    }


def picture_name(image: Json) -> str:
    """Return the file of an image record relative to the pictures' folder.

    LVIS names a picture only by its address, whose last two parts are folder (train2017 or val2017) and file.
    """
    return image.get("file_name") or "/".join(image["coco_url"].rsplit("/", 2)[-2:])


def is_there(folder: Path, image: Json) -> bool:
    """Whether the picture of an image record is a file in the pictures' folder; one of too long a path is none."""
    return os.path.isfile(folder / picture_name(image))  # noqa: PTH113 (`Path.is_file` raises for such a path)
