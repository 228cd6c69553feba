"""Contract of COCO and LVIS annotation files: every record is sound, every box of the user's file accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from regionclip.contracts.gx import Check, Expect
from regionclip.data.annotations.annotation_files import RULES, Boxes, class_name, mask_problem, picture_name

_AGAIN = "mend the annotation file, or run the stage that wrote it again"
_CROWD, _IGNORE, _SMALL = "a crowd", "marked 'ignore'", "below one pixel"
_OTHER = "of a class that the split does not use"


class BoxTables(NamedTuple):
    """The tables of an annotation file (or of several, told apart by the column ``file``).

    Attributes:
        images: file, id, name (relative to the image folder), width, height in pixels.
        annotations: file, id, image_id, category_id, category_name, bbox_x, bbox_y, bbox_w, bbox_h in pixels, and
            ``unused``: why the box is no object to train on (a crowd, marked "ignore", below one pixel), or None.
        categories: file, id, name (as classes are called).
        faults: part, file, record, fault (the problem): the records that are in no other table.
    """

    images: pd.DataFrame
    annotations: pd.DataFrame
    categories: pd.DataFrame
    faults: pd.DataFrame


def box_tables(boxes: Boxes, *, masks: bool = False) -> BoxTables:
    """Turn what an annotation file holds into tables; with ``masks`` also what is wrong with each box's mask."""
    content, file = boxes.content, str(boxes.file)
    names = {category["id"]: class_name(category) for category in content["categories"]}
    sides = np.array([box["bbox"] for box in content["annotations"]], np.float64).reshape(-1, 4)
    annotations = _table(content["annotations"], ("id", "image_id", "category_id")).assign(
        category_name=[names[box["category_id"]] for box in content["annotations"]],
        **{f"bbox_{side}": sides[:, column] for column, side in enumerate("xywh")},
        unused=pd.Series([_unused(box) for box in content["annotations"]], dtype=object),
    )
    if masks:
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        problems = [mask_problem(b.get("segmentation"), sizes[b["image_id"]]) for b in content["annotations"]]
        annotations["segmentation"] = pd.Series(problems, dtype=object)
    faults = [(fault.part, fault.record, fault.rule.problem) for fault in boxes.faults]
    tables = BoxTables(
        _table(content["images"], ("id", "width", "height")).assign(name=[picture_name(i) for i in content["images"]]),
        annotations,
        pd.DataFrame({"id": list(names), "name": list(names.values())}),
        pd.DataFrame(faults, columns=["part", "record", "fault"]),
    )
    return BoxTables(*(table.assign(file=file) for table in tables))


def join_tables(tables: Iterable[BoxTables]) -> BoxTables:
    """Put the tables of several files under each other."""
    return BoxTables(*(pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True)))


def box_checks(name: str, tables: BoxTables) -> list[Check]:
    """Return the checks of annotation files, one or several: one expectation for each rule of a sound record."""
    checks = []
    for part, rules in RULES.items():
        sound = getattr(tables, part)
        broken = tables.faults[tables.faults["part"] == part]
        sound = pd.DataFrame(
            {"file": sound["file"], "record": f"{part[:-1]} " + sound["id"].astype(str), "fault": None}
        )
        table = pd.concat([broken[["file", "record", "fault"]], sound], ignore_index=True)
        expectations = [Expect(f"the file lists no {part[:-1]}", _AGAIN).rows()]
        expectations += [Expect(rule.problem, rule.mend, rule.key).not_among("fault", [rule.problem]) for rule in rules]
        checks.append(Check(f"{name} {part}", table.astype({"fault": object}), ("file", "record"), expectations))
    return checks


def mask_check(name: str, annotations: pd.DataFrame) -> Check:
    """Return the check that each of `box_tables`' annotations (with masks) has a mask of its image."""
    problem = "masks are asked for, and the annotation has none that fits its image"
    expect = Expect(problem, "add masks to the file, or set the param to false", f"finetune.sets.{name}.masks")
    return Check(f"{name} masks", annotations, ("file", "id", "segmentation"), [expect.none("segmentation")])


def box_account(
    annotations: pd.DataFrame,
    source: Mapping[str, Any],
    left_out: int,
    base: Collection[int] | None = None,
    used: int | None = None,
) -> dict[str, Any]:
    """Return where the boxes of a split's file go.

    Args:
        annotations: What stage `data` wrote of it; see `BoxTables`.
        source: What is known of the user's file: how many ``annotations``, and ``set_aside`` by reason.
        left_out: Boxes of classes that the split does not have.
        base: Ids of the classes that are trained on; None for a split that is measured on, where only crowds are none.
        used: Boxes that the training's data set gives.

    Returns:
        file (boxes in the user's file), used (trained or measured on), not_used (reason -> boxes), and unexplained:
        how many more are in the file than all the others together.
    """
    unused = annotations["unused"]
    if base is None:
        unused = unused.where(unused != _SMALL, None)
        used = int(unused.isna().sum())
    else:
        unused = unused.where(annotations["category_id"].isin(list(base)), _OTHER)
    reasons = Counter(source["set_aside"]) + Counter({_OTHER: left_out})
    reasons += Counter({why: int(count) for why, count in unused.dropna().value_counts().items()})
    rest = source["annotations"] - used - reasons.total()
    return {"file": source["annotations"], "used": used, "not_used": dict(reasons), "unexplained": rest}


def account_check(name: str, files: Mapping[str, Path], accounts: Mapping[str, Mapping[str, Any]]) -> Check:
    """Return the check that no box of the user's files is lost without a reason; see `box_account`, by split."""
    keys = ("file", "used", "unexplained")
    rows = [(str(files[split]), split, *(account[key] for key in keys)) for split, account in accounts.items()]
    again = "run the stage `data` again"
    none_left = "no box is left to use (crowds and boxes below a pixel are none)"
    expectations = [
        Expect("boxes are lost without a reason", again, "annotations").among("unexplained", [0]),
        Expect(none_left, "label some", "annotations").between("used", 1),
    ]
    table = pd.DataFrame(rows, columns=["file", "split", "listed", *keys[1:]])
    return Check(f"{name} account of boxes", table, ("file", "split", "listed"), expectations)


def _table(records: list[dict[str, Any]], keys: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame({key: [record[key] for record in records] for key in keys}, dtype=np.int64)


def _unused(box: Mapping[str, Any]) -> str | None:
    if box.get("iscrowd"):
        return _IGNORE if box.get("ignore") else _CROWD
    return _SMALL if min(box["bbox"][2:]) < 1 else None
