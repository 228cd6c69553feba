"""The rule of open vocabulary that must never break, no novel box in training, as a plain and cheap check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regionclip.errors import DataCheckFailed
from regionclip.files import read_json
from regionclip.text.prompts import clean_lvis_name

_MEND = "make the training annotations again from base classes only"


def assert_no_novel(annotations_file: str | Path, classes_file: str | Path) -> int:
    """Refuse training annotations with a box of a class that is not base.

    A category is looked up by id and by name, so a file with other ids than classes.json cannot slip through.

    Args:
        annotations_file: COCO or LVIS JSON of a training set.
        classes_file: classes.json of the same data folder.

    Returns:
        The number of boxes, all of base classes.

    Raises:
        InputError: A file is absent or is not JSON.
        DataCheckFailed: A box is of a novel or unknown class, or a key is missing.
    """
    classes = {_get(entry, "id", classes_file, i): entry for i, entry in enumerate(_list("classes", classes_file))}
    base = {
        number: _get(entry, "name", classes_file, number)
        for number, entry in classes.items()
        if _get(entry, "split", classes_file, number) == "base"
    }
    named = {
        _get(entry, "id", annotations_file, f"category {i}"): _get(entry, "name", annotations_file, f"category {i}")
        for i, entry in enumerate(_list("categories", annotations_file))
    }
    boxes = _list("annotations", annotations_file)
    for i, box in enumerate(boxes):
        record = f"annotation {box.get('id', f'number {i}') if isinstance(box, dict) else i}"
        category = _get(box, "category_id", annotations_file, record)
        name = clean_lvis_name(str(named.get(category, "")))
        if base.get(category) != name:
            known = classes.get(category, {})
            what = "novel" if known.get("split") == "novel" and known["name"] == name else "no base class"
            problem = f"a training box of class {category} '{name}', which is {what} in {classes_file}"
            raise DataCheckFailed(problem, file=annotations_file, record=record, key="category_id", mend=_MEND)
    return len(boxes)


def _list(key: str, file: str | Path) -> list[Any]:
    content = read_json(file)
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, list):
        raise DataCheckFailed("there is no such list", file=file, key=key, mend=_MEND)
    return value


def _get(entry: Any, key: str, file: str | Path, record: object) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise DataCheckFailed("the key is missing", file=file, record=record, key=key, mend=_MEND)
    return entry[key]
