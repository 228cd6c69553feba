"""Class lists of a data set's metainfo, and their category ids, found by name as the model's labels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regionclip.data.annotations.truth import load_truth
from regionclip.errors import InputError
from regionclip.text.prompts import clean_lvis_name


def classes_of(metainfo: Mapping[str, Any], key: str) -> Sequence[str]:
    """Return ``classes``, ``base_classes`` or ``novel_classes`` of a data set's metainfo.

    Raises:
        InputError: It has none.
    """
    if key not in metainfo:
        raise InputError("the data set does not say", key=f"metainfo.{key}", mend=f"give it {key} in metainfo")
    return metainfo[key]


def category_ids(ann_file: str, classes: Sequence[str]) -> list[int]:
    """Return the category id of each class.

    Args:
        ann_file: COCO or LVIS JSON.
        classes: Class names in label order, as LVIS or as a person writes them.

    Raises:
        InputError: A class is not in the file.
    """
    ids = {clean_lvis_name(entry["name"]): entry["id"] for entry in load_truth(ann_file)["categories"]}
    for name in classes:
        if clean_lvis_name(name) not in ids:
            raise InputError(
                f"there is no category '{name}'",
                file=ann_file,
                key="categories",
                mend="give the annotation file of the classes that the model detects",
            )
    return [ids[clean_lvis_name(name)] for name in classes]
