"""Contract of splits: base and novel classes are kept apart, no picture is in two splits, and drift.

Drift is how far the boxes of a split are from those of the training split or of an earlier run, in size and number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regionclip.contracts.boxes import BoxTables
from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.contracts.pictures import DROP, twins
from regionclip.data.layout import read_classes
from regionclip.errors import InputError
from regionclip.files import read_json

TRAIN = "train"
LARGEST_SHARE = 0.5  # of one class; person has 0.4 of COCO's base boxes
_AGAIN = "make the splits again"
MOST_DRIFT = 0.25
"""Total variation distance, 0 (equal) to 1 (apart), above which a split is said to drift."""

_FEW = 200  # boxes of a split below which a histogram is mostly chance
_EDGES = {
    # Doublings, open at both ends: COCO's small, medium and large are 32 and 96 pixels.
    "size": [0, *2.0 ** np.arange(2, 11), np.inf],  # square root of width times height, in pixels
    "aspect": [0, *2.0 ** np.arange(-2.5, 3.0), np.inf],  # width / height
    "boxes_per_image": [1, 2, 4, 8, 16, 32, 64, np.inf],
}


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
    split_of = classes.drop_duplicates("id").set_index("id")["split"]
    boxes = splits[TRAIN].annotations[["file", "id", "category_id", "category_name"]]
    boxes = boxes.assign(class_split=split_of.reindex(boxes["category_id"]).fillna("unknown").to_numpy())
    problem = "a box of a class that is not base is in the training annotations"
    novel = Expect(problem, "make the training annotations again from base classes only", "category_id")
    pictures = pd.concat([part.assign(split=split) for split, part in files.items()], ignore_index=True)
    found = twins(pictures, pictures, "split").astype(object)
    pictures = pictures.assign(twin=found.where(found.notna(), None))
    same = Expect("the same picture is in two splits", DROP, "file_name")
    return [
        Check(f"{name} classes", classes, ("file", "id"), of_classes),
        _category_check(name, classes, splits),
        Check(f"{name} training boxes", boxes, ("file", "id", "category_name"), [novel.among("class_split", ["base"])]),
        _balance_check(name, classes, splits[TRAIN]),
        Check(f"{name} pictures across splits", pictures, ("file", "id"), [same.none("twin")]),
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


def box_profile(tables: BoxTables, base: Collection[int]) -> dict[str, Any]:
    """Return what the boxes of a split look like: the counts of images and boxes, and three histograms as fractions.

    Only boxes of base classes count, and images that have one: a training split holds no others, so what is left of
    the other splits can be compared with it. Boxes without size are left out; another check finds them.
    """
    everything = tables.annotations
    boxes = everything[(everything["bbox_w"] > 0) & (everything["bbox_h"] > 0) & everything["category_id"].isin(base)]
    of_image = boxes["image_id"].value_counts()
    values = {
        "size": np.sqrt(boxes["bbox_w"] * boxes["bbox_h"]),
        "aspect": boxes["bbox_w"] / boxes["bbox_h"],
        "boxes_per_image": of_image,
    }
    counts = {name: np.histogram(values[name], bins=edges)[0] for name, edges in _EDGES.items()}
    shares = {name: (count / max(count.sum(), 1)).round(4).tolist() for name, count in counts.items()}
    return {"images": len(of_image), "boxes": len(boxes), **shares}


def drift_check(name: str, reference: str, profiles: Mapping[str, Mapping[str, Any]]) -> Check:
    """Return the check, a warning, that the other splits look like ``reference``; few boxes are not compared."""
    pairs = {split: (profiles[reference], profile) for split, profile in profiles.items() if split != reference}
    mend = "compare the profiles in box_profile.json"
    expect = Expect(f"the boxes differ from those of '{reference}'", mend, severity=WARNING)
    return _drift_check(f"{name} drift", name, pairs, expect)


def earlier_check(name: str, file: Path, profiles: Mapping[str, Mapping[str, Any]]) -> Check:
    """Return the check, a warning, that each split looks like that of an earlier run.

    Args:
        name: The data set.
        file: ``box_profile.json`` of the earlier run.
        profiles: Split -> see `box_profile`.

    Raises:
        InputError: The file is absent, has nothing of this data set, or a split of it is no profile.
    """
    mend = "give box_profile.json of a run on this data set"
    content = read_json(file)
    earlier = content.get(name) if isinstance(content, dict) else None
    shared = [split for split in profiles if isinstance(earlier, dict) and split in earlier]
    if not shared:
        raise InputError("it has no profile of this data set", file=file, key=name, mend=mend)
    for split in shared:
        for key, wanted in {"boxes": None, **{key: len(edges) - 1 for key, edges in _EDGES.items()}}.items():
            value = earlier[split].get(key) if isinstance(earlier[split], dict) else None
            if not isinstance(value, int if wanted is None else list) or (wanted and len(value) != wanted):
                raise InputError("no box profile", file=file, record=split, key=key, mend=mend)
    pairs = {split: (earlier[split], profiles[split]) for split in shared}
    expect = Expect(f"the boxes differ from those of {file}", "look why", severity=WARNING)
    return _drift_check(f"{name} drift from before", name, pairs, expect)


def _drift_check(
    suite: str, file: str, pairs: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], expect: Expect
) -> Check:
    rows = [
        (split, statistic, distance(before[statistic], now[statistic]))
        for split, (before, now) in pairs.items()
        if min(before["boxes"], now["boxes"]) >= _FEW
        for statistic in _EDGES
    ]
    table = pd.DataFrame(rows, columns=["split", "statistic", "distance"]).assign(file=file)
    return Check(suite, table, ("file", "split", "statistic"), [expect.between("distance", most=MOST_DRIFT)])


def distance(first: list[float], second: list[float]) -> float:
    """Return the total variation distance of two histograms of fractions, 0 to 1."""
    return float(np.abs(np.subtract(first, second)).sum() / 2)
