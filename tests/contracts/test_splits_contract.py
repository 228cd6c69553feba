"""Contract of splits: novel boxes in training, classes that do not add up, and pictures in two splits are found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regionclip.contracts.boxes import box_tables
from regionclip.contracts.gate import Check, gate, run_checks
from regionclip.contracts.pictures import image_files_table
from regionclip.contracts.splits import class_table, split_checks
from regionclip.data.annotations.annotation_files import read_boxes
from regionclip.data.layout import detection_set
from regionclip.errors import DataCheckFailed

Edit = Callable[[Path, Callable[[Any], None]], None]


def _checks(data: Path, kind: str, part: str = "", *, supervised: bool = False) -> list[Check]:
    """Return the checks of a data set's splits, or only the one whose name ends with ``part``."""
    sets = {split: detection_set(kind, split, data / "sets") for split in ("train", "dev", "val")}
    tables = {split: box_tables(read_boxes(where.annotations, kind)) for split, where in sets.items()}
    files = {split: image_files_table(tables[split].images, where.images) for split, where in sets.items()}
    classes = class_table(data / "sets" / kind / "classes.json")
    checks = split_checks(kind, classes, tables, files, supervised=supervised)
    return [check for check in checks if check.name.endswith(part)]


@pytest.mark.parametrize("kind", ["coco", "lvis"])
def test_clean_splits_pass(clean_data: Path, kind: str) -> None:
    results = run_checks(_checks(clean_data, kind))
    assert all(result["success"] for result in results)
    assert {result["artefact"] for result in results} == {
        f"{kind} classes",
        f"{kind} categories and classes",
        f"{kind} training boxes",
        f"{kind} class balance",
        f"{kind} pictures across splits",
    }


def _class(at: int, key: str, value: Any) -> Callable[[Any], None]:
    return lambda content: content["classes"][at].__setitem__(key, value)


def _novel_box(content: Any) -> None:
    content["annotations"][3]["category_id"] = 2
    content["categories"].append({"id": 2, "name": "ring"})


FAULTS = [
    (
        "coco",
        "annotations/train.json",
        _novel_box,
        "id 203.*key 'category_id'.*not base is in the training",
    ),
    (
        "lvis",
        "annotations/train.json",
        lambda c: c["annotations"][3].update(category_id=2) or c["images"][1].update(neg_category_ids=[]),
        "category_id.*not base",
    ),
    ("coco", "annotations/val.json", lambda c: c["categories"].pop(0), "id 1.*lacks a class"),
    (
        "coco",
        "annotations/val.json",
        lambda c: c["categories"][0].update(name="moon"),
        "id 1.*differ in name",
    ),
    ("coco", "annotations/train.json", lambda c: c["categories"][0].update(id=9), "id 9.*is no class"),
    ("coco", "classes.json", _class(1, "split", "base"), "base or novel classes are missing"),
    ("lvis", "classes.json", _class(1, "frequency", "c"), "id 2.*novel must mean rare"),
]


@pytest.mark.parametrize(("kind", "name", "plant", "message"), FAULTS)
def test_a_planted_fault_is_named(
    data: Path, edit: Edit, kind: str, name: str, plant: Callable[[Any], None], message: str
) -> None:
    file = data / "sets" / kind / name
    edit(file, plant)
    with pytest.raises(DataCheckFailed, match=f"{message}.*To mend") as caught:
        gate("splits", _checks(data, kind), data)
    assert caught.value.file in (str(file), None)


def test_a_supervised_set_has_base_classes_only(data: Path, edit: Edit) -> None:
    file = data / "sets/lvis/classes.json"
    edit(file, lambda content: [entry.update(split="base") for entry in content["classes"]])
    assert gate("splits", _checks(data, "lvis", supervised=True), data)
    edit(file, _class(0, "split", "novel"))
    with pytest.raises(DataCheckFailed, match="only base classes are meant"):
        gate("splits", _checks(data, "lvis", "lvis classes", supervised=True), data)


@pytest.mark.parametrize("other", ["train/000000000002.jpg", "dev/000000000012.jpg"])
def test_a_picture_in_two_splits_is_found(data: Path, other: str) -> None:
    shutil.copy(data / "sets/coco/val/000000000021.jpg", data / "sets/coco" / other)
    with pytest.raises(DataCheckFailed, match="the same picture is in two splits") as caught:
        gate("splits", _checks(data, "coco", "across splits"), data)
    assert caught.value.file == str(data / "sets/coco" / other) and "000000000021.jpg" in caught.value.record


def test_a_picture_twice_in_one_split_is_no_leak(data: Path) -> None:
    shutil.copy(data / "sets/coco/val/000000000021.jpg", data / "sets/coco/val/000000000022.jpg")
    results = gate("splits", _checks(data, "coco", "across splits"), data)
    assert all(result["success"] for result in results)


def test_a_base_class_without_boxes_and_one_with_most_of_them_are_warnings(data: Path, edit: Edit) -> None:
    def unbalance(content: Any) -> None:
        content["annotations"] = [box for box in content["annotations"] if box["category_id"] == 1]

    edit(data / "sets/coco/annotations/train.json", unbalance)
    edit(data / "sets/coco/classes.json", lambda c: c["classes"].append({"id": 4, "name": "moon", "split": "base"}))
    results = gate("splits", _checks(data, "coco", "class balance"), data)
    assert {(result["problem"], result["severity"]) for result in results if not result["success"]} == {
        ("a base class has no training box", "warning"),
        ("one class has more than 67% of the boxes", "warning"),
    }
    assert [row["name"] for row in results[0]["records"]] == ["boat", "moon"]
