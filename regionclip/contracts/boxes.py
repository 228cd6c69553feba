"""Contract of COCO and LVIS annotation files: images, boxes, categories and how they refer to each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from regionclip.contracts.checkpoint import Check
from regionclip.contracts.gx import gx, gxe, said
from regionclip.data.annotations.quarantine import BORDER
from regionclip.data.annotations.tables import INTEGER, LIST, NUMBER, TEXT, boxes_array, read_object, records_table

Kind = Literal["coco", "lvis"]

_SIDES = {"over_left": "left", "over_top": "upper", "over_right": "right", "over_bottom": "lower"}
_AGAIN = "mend the annotation file, or run the stage that wrote it again"


class BoxTables(NamedTuple):
    """The three tables of an annotation file (or of several, told apart by the column ``file``).

    Attributes:
        images: file, id, name (relative to the image folder), width, height in pixels.
        annotations: file, id, image_id, category_id, bbox_x, bbox_y, bbox_w, bbox_h in pixels, area, what is known of
            image and category, and by how many pixels the box leaves the image on each side.
        categories: file, id, name.
    """

    images: pd.DataFrame
    annotations: pd.DataFrame
    categories: pd.DataFrame


def read_box_tables(file: str | Path, kind: Kind) -> BoxTables:
    """Read an annotation file.

    Raises:
        InputError: The file is absent or is not JSON.
        DataCheckFailed: A record lacks a key or holds another type in it.
    """
    file = Path(file)
    content = read_object(file)
    numbers = {"id": INTEGER, "width": INTEGER, "height": INTEGER}
    if kind == "coco":
        images = records_table(content, "images", file, {**numbers, "file_name": TEXT})
        images = images.rename(columns={"file_name": "name"})
        categories = records_table(content, "categories", file, {"id": INTEGER, "name": TEXT})
        more: dict[str, tuple[type, ...]] = {"iscrowd": INTEGER}
    else:
        lists = {"neg_category_ids": LIST, "not_exhaustive_category_ids": LIST}
        images = records_table(content, "images", file, {**numbers, "coco_url": TEXT, **lists})
        # LVIS gives no file name; folder and file are the last two parts of the address.
        images["name"] = ["/".join(PurePosixPath(url).parts[-2:]) for url in images.pop("coco_url")]
        categories = records_table(content, "categories", file, {"id": INTEGER, "name": TEXT, "frequency": TEXT})
        more = {}
    keys = {"id": INTEGER, "image_id": INTEGER, "category_id": INTEGER, "bbox": LIST, "area": NUMBER, **more}
    annotations = _with_boxes(records_table(content, "annotations", file, keys), images, categories)
    if kind == "lvis":
        images, annotations = _with_negatives(images, annotations, categories)
    return BoxTables(images, annotations, categories)


def join_tables(tables: Iterable[BoxTables]) -> BoxTables:
    """Put the tables of several files under each other."""
    images, annotations, categories = (pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True))
    return BoxTables(images, annotations, categories)


def box_checks(name: str, tables: BoxTables, kind: Kind) -> list[Check]:
    """Return the checks of annotation files.

    Args:
        name: Name of the data set, for the report.
        tables: Of one file or several.
        kind: LVIS files have frequencies and per-image lists of classes too.
    """
    record = ("file", "id")
    suites = {
        "images": (tables.images, _image_expectations(kind)),
        "categories": (tables.categories, _category_expectations(kind)),
        "annotations": (tables.annotations, _annotation_expectations(kind)),
    }
    return [
        Check(gx.ExpectationSuite(name=f"{name} {part}", expectations=expectations), table, record)
        for part, (table, expectations) in suites.items()
    ]


def size_expectations() -> list[Any]:
    """Expect rows, ids and names that are unique within their file, and sizes of a pixel or more."""
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, meta=said("the file lists no image", _AGAIN)),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["file", "id"], meta=said("an id occurs twice", _AGAIN)),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["file", "name"], meta=said("an image occurs twice", _AGAIN)),
        *(
            gxe.ExpectColumnValuesToBeBetween(column=side, min_value=1, meta=said("an image has no size", _AGAIN))
            for side in ("width", "height")
        ),
    ]


def _image_expectations(kind: Kind) -> list[Any]:
    lists = gxe.ExpectColumnValuesToBeInSet(
        column="unknown_listed",
        value_set=[0],
        meta=said("the image lists ids that are no category", _AGAIN, "neg_category_ids"),
    )
    return size_expectations() + ([lists] if kind == "lvis" else [])


def _annotation_expectations(kind: Kind) -> list[Any]:
    outside = f"more than {BORDER:g} pixel beyond the"
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, meta=said("the file holds no box", _AGAIN)),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["file", "id"], meta=said("an id occurs twice", _AGAIN)),
        gxe.ExpectColumnValuesToNotBeNull(column="image_name", meta=said("there is no such image", _AGAIN, "image_id")),
        gxe.ExpectColumnValuesToNotBeNull(
            column="category_name", meta=said("there is no such category", _AGAIN, "category_id")
        ),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=column, meta=said("not a number", _AGAIN, column.split("_")[0]))
            for column in ("bbox_x", "bbox_y", "bbox_w", "bbox_h", "area")
        ),
        *(
            gxe.ExpectColumnValuesToBeBetween(
                column=column,
                min_value=0,
                strict_min=True,
                meta=said("the box is empty", "drop the box or mend it", "bbox"),
            )
            for column in ("bbox_w", "bbox_h")
        ),
        *(
            gxe.ExpectColumnValuesToBeBetween(
                column=column,
                max_value=BORDER,
                meta=said(f"the box is {outside} {side} border", "clip the box, or mend the image's size", "bbox"),
            )
            for column, side in _SIDES.items()
        ),
        gxe.ExpectColumnValuesToBeBetween(column="area", min_value=0, meta=said("the area is negative", _AGAIN)),
    ]
    if kind == "coco":
        last = gxe.ExpectColumnValuesToBeInSet(column="iscrowd", value_set=[0, 1], meta=said("neither 0 nor 1", _AGAIN))
    else:
        problem = "the class is annotated in an image that lists it as absent"
        last = gxe.ExpectColumnValuesToBeInSet(
            column="listed_absent", value_set=[False], meta=said(problem, _AGAIN, "category_id")
        )
    return [*expectations, last]


def _category_expectations(kind: Kind) -> list[Any]:
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, meta=said("the file lists no category", _AGAIN)),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["file", "id"], meta=said("an id occurs twice", _AGAIN)),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["file", "name"], meta=said("a name occurs twice", _AGAIN)),
        gxe.ExpectColumnValuesToMatchRegex(column="name", regex=r"\S", meta=said("the name is empty", _AGAIN)),
    ]
    if kind == "lvis":
        known = said("the frequency is none of f, c, r", _AGAIN)
        expectations.append(gxe.ExpectColumnValuesToBeInSet(column="frequency", value_set=["f", "c", "r"], meta=known))
    return expectations


def _with_boxes(annotations: pd.DataFrame, images: pd.DataFrame, categories: pd.DataFrame) -> pd.DataFrame:
    """Add the box's numbers, image and category, and how far it leaves the image."""
    left, top, width, height = boxes_array(annotations, "bbox").T
    # An id that occurs twice is found by another expectation.
    of_image = images.drop_duplicates("id").set_index("id").reindex(annotations["image_id"])
    names = categories.drop_duplicates("id").set_index("id")["name"]
    return annotations.drop(columns="bbox").assign(
        bbox_x=left,
        bbox_y=top,
        bbox_w=width,
        bbox_h=height,
        over_left=-left,
        over_top=-top,
        over_right=left + width - of_image["width"].to_numpy(np.float64),
        over_bottom=top + height - of_image["height"].to_numpy(np.float64),
        image_name=of_image["name"].to_numpy(),
        category_name=names.reindex(annotations["category_id"]).to_numpy(),
    )


def _with_negatives(
    images: pd.DataFrame, annotations: pd.DataFrame, categories: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count listed ids that are no category; mark boxes of classes that their image lists as absent."""
    known = set(categories["id"])
    listed = images["neg_category_ids"] + images["not_exhaustive_category_ids"]
    absent = {(row.id, category) for row in images.itertuples() for category in row.neg_category_ids}
    images = images.assign(unknown_listed=[len(set(row) - known) for row in listed])
    pairs = zip(annotations["image_id"], annotations["category_id"], strict=True)
    annotations = annotations.assign(listed_absent=[pair in absent for pair in pairs])
    return images.drop(columns=["neg_category_ids", "not_exhaustive_category_ids"]), annotations
