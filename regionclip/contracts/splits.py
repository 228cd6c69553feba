"""Contract of splits: base and novel classes are kept apart, and no picture is in two splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from regionclip.contracts.boxes import BoxTables
from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.contracts.pictures import DROP, twins
from regionclip.data.layout import read_classes

TRAIN = "train"
LARGEST_SHARE = 0.5  # of one class; person has 0.4 of COCO's base boxes
_AGAIN = "make the splits again"


def class_table(file: str | Path) -> pd.DataFrame:
    """Read classes.json: file, id, name, split; for LVIS also frequency and split_by_frequency; errors as there."""
    classes = pd.DataFrame(read_classes(Path(file))).assign(file=str(file))
    if "frequency" in classes:
        classes["split_by_frequency"] = np.where(classes["frequency"] == "r", "novel", "base")
    return classes


def split_checks(
    name: str,
    classes: pd.DataFrame,
    splits: Mapping[str, BoxTables],
    files: Mapping[str, pd.DataFrame],
    *,
    supervised: bool = False,
) -> list[Check]:
    """Return the checks that hold between the splits of a data set.

    Args:
        name: Name of the data set.
        classes: See `class_table`.
        splits: Split name -> tables of its annotation file; "train" is the base one, the others hold all classes.
        files: Split name -> table of its image files; see `image_files_table`.
        supervised: Every class is base, LVIS's rare ones too.
    """
    groups = "only base classes are meant" if supervised else "base or novel classes are missing"
    of_classes = [Expect(groups, _AGAIN).set_of("split", ["base"] if supervised else ["base", "novel"])]
    if "frequency" in classes and not supervised:
        of_classes.append(Expect("novel must mean rare (frequency r)", _AGAIN).equal("split", "split_by_frequency"))
    return [
        Check(f"{name} classes", classes, ("file", "id"), of_classes),
        _category_check(name, classes, splits),
        _novel_box_check(name, classes, splits[TRAIN]),
        _balance_check(name, classes, splits[TRAIN]),
        _twin_check(name, files),
    ]


def _category_check(name: str, classes: pd.DataFrame, splits: Mapping[str, BoxTables]) -> Check:
    """Each category is a class of that name; files that measure list every class."""
    listed = classes[["id", "name"]].drop_duplicates("id").rename(columns={"name": "class_name"})
    parts = []
    for split, tables in splits.items():
        joined = tables.categories.merge(listed, on="id", how="left" if split == TRAIN else "outer")
        parts.append(joined.assign(file=joined["file"].ffill().bfill()))
    differ = "category and class of one id differ in name"
    expectations = [
        Expect("the annotation file lacks a class", _AGAIN, "categories").some("name"),
        Expect("a category is no class", _AGAIN, "categories").some("class_name"),
        Expect(differ, _AGAIN, "categories").equal("name", "class_name"),
    ]
    table = pd.concat(parts, ignore_index=True)
    return Check(f"{name} categories and classes", table, ("file", "id"), expectations)


def _novel_box_check(name: str, classes: pd.DataFrame, train: BoxTables) -> Check:
    split_of = classes.drop_duplicates("id").set_index("id")["split"]
    table = train.annotations[["file", "id", "category_id", "category_name"]]
    table = table.assign(class_split=split_of.reindex(table["category_id"]).fillna("unknown").to_numpy())
    problem = "a box of a class that is not base is in the training annotations"
    expect = Expect(problem, "make the training annotations again from base classes only", "category_id")
    expectations = [expect.among("class_split", ["base"])]
    return Check(f"{name} training boxes", table, ("file", "id", "category_name"), expectations)


def _balance_check(name: str, classes: pd.DataFrame, train: BoxTables) -> Check:
    """Warn of base classes without a training box (crowds are none), and of one that has most of them."""
    base = classes[classes["split"] == "base"]
    objects = train.annotations[train.annotations["unused"].isna()]
    boxes = objects["category_id"].value_counts().reindex(base["id"].tolist(), fill_value=0).to_numpy()
    table = base[["file", "id", "name"]].assign(boxes=boxes, share=boxes / max(boxes.sum(), 1))
    largest = max(LARGEST_SHARE, 2 / max(len(base), 1))
    bare = "a base class has no training box"
    much = f"one class has more than {largest:.0%} of the boxes"
    expectations = [
        Expect(bare, "label some, or call the class novel", "category_id", WARNING).between("boxes", 1),
        Expect(much, "label more of the others", "category_id", WARNING).between("share", most=largest),
    ]
    return Check(f"{name} class balance", table, ("file", "id", "name"), expectations)


def _twin_check(name: str, files: Mapping[str, pd.DataFrame]) -> Check:
    table = pd.concat([part.assign(split=split) for split, part in files.items()], ignore_index=True)
    found = twins(table, table, "split").astype(object)
    expect = Expect("the same picture is in two splits", DROP, "file_name")
    table = table.assign(twin=found.where(found.notna(), None))
    return Check(f"{name} pictures across splits", table, ("file", "id"), [expect.none("twin")])
