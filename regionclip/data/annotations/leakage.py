"""The rule of open vocabulary that must never break, no novel box in training, as a plain and cheap check."""

from __future__ import annotations

from pathlib import Path

from regionclip.data.annotations.annotation_files import class_name, read_boxes
from regionclip.data.layout import read_classes
from regionclip.errors import DataCheckFailed


def assert_no_novel(annotations_file: str | Path, classes_file: str | Path) -> int:
    """Refuse training annotations with a box of a class that is not base.

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
