"""Contract of annotation files: the clean ones pass, and each planted fault is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regionclip.contracts.boxes import box_checks, join_tables, read_box_tables
from regionclip.contracts.checkpoint import gate, run_checks
from regionclip.errors import DataCheckFailed, InputError

COCO, LVIS = "coco/annotations/instances_train_base.json", "lvis/annotations/lvis_train_base.json"
Edit = Callable[[Path, Callable[[Any], None]], None]


def _check(file: Path, reports: Path, part: str = "") -> None:
    """Run the checks of a file, or only the one of its ``part``."""
    kind = "lvis" if "lvis" in file.name else "coco"
    checks = box_checks(kind, read_box_tables(file, kind), kind)
    gate("boxes", [check for check in checks if check.suite.name.endswith(part)], reports)


@pytest.mark.parametrize("kind", ["coco", "lvis"])
def test_clean_files_pass(clean_data: Path, kind: str) -> None:
    files = sorted((clean_data / kind / "annotations").iterdir())
    tables = join_tables(read_box_tables(file, kind) for file in files)
    assert (len(tables.images), len(tables.annotations)) == (9, 24)
    results = run_checks(box_checks(kind, tables, kind))
    assert len(results) > 20 and all(result["success"] for result in results)


def test_lvis_pictures_are_named_by_the_end_of_their_address(clean_data: Path) -> None:
    tables = read_box_tables(clean_data / LVIS, "lvis")
    assert tables.images["name"].tolist() == [f"train/{number:012d}.jpg" for number in (1, 2, 3)]


def _set(part: str, at: int, key: str, value: Any) -> Callable[[Any], None]:
    return lambda content: content[part][at].__setitem__(key, value)


FAULTS = [
    (COCO, "annotations", _set("annotations", 1, "id", 101), "id 101", "id", "an id occurs twice"),
    (COCO, "images", _set("images", 1, "id", 1), "id 1", "id", "an id occurs twice"),
    (COCO, "categories", _set("categories", 1, "id", 1), "id 1", "id", "an id occurs twice"),
    (COCO, "categories", _set("categories", 1, "name", "star"), "name star", "name", "a name occurs twice"),
    (COCO, "categories", _set("categories", 1, "name", " "), "id 3", "name", "the name is empty"),
    (COCO, "images", _set("images", 1, "file_name", "000000000001.jpg"), "id 1", "name", "an image occurs twice"),
    (COCO, "images", _set("images", 0, "width", 0), "id 1", "width", "no size"),
    (COCO, "annotations", _set("annotations", 0, "image_id", 77), "id 101", "image_id", "no such image"),
    (COCO, "annotations", _set("annotations", 0, "category_id", 77), "id 101", "category_id", "no such category"),
    (COCO, "annotations", _set("annotations", 0, "bbox", [30, 3, 12, 5]), "id 101", "bbox", "beyond the right border"),
    (COCO, "annotations", _set("annotations", 0, "bbox", [3, 20, 12, 12]), "id 101", "bbox", "beyond the lower border"),
    (COCO, "annotations", _set("annotations", 0, "bbox", [-2, 3, 5, 5]), "id 101", "bbox", "beyond the left border"),
    (COCO, "annotations", _set("annotations", 0, "bbox", [2, -3, 5, 5]), "id 101", "bbox", "beyond the upper border"),
    (COCO, "annotations", _set("annotations", 0, "bbox", [2, 3, 0, 5]), "id 101", "bbox", "the box is empty"),
    (COCO, "annotations", _set("annotations", 0, "bbox", [2, 3, 5, -1]), "id 101", "bbox", "the box is empty"),
    (COCO, "annotations", _set("annotations", 0, "bbox", [2, 3, float("nan"), 5]), "id 101", "bbox", "not a number"),
    (
        COCO,
        "annotations",
        _set("annotations", 0, "bbox", [2, 3, float("inf"), 5]),
        "id 101",
        "bbox",
        "beyond the right border",
    ),
    (COCO, "annotations", _set("annotations", 0, "area", -1), "id 101", "area", "the area is negative"),
    (COCO, "annotations", _set("annotations", 0, "iscrowd", 2), "id 101", "iscrowd", "neither 0 nor 1"),
    (LVIS, "categories", _set("categories", 0, "frequency", "x"), "id 1", "frequency", "none of f, c, r"),
    (LVIS, "annotations", _set("images", 0, "neg_category_ids", [1]), "id 101", "category_id", "lists it as absent"),
    (LVIS, "images", _set("images", 0, "neg_category_ids", [9]), "id 1", "neg_category_ids", "no category"),
]


@pytest.mark.parametrize(("name", "part", "plant", "record", "key", "problem"), FAULTS)
def test_a_planted_fault_is_named(
    data: Path, edit: Edit, name: str, part: str, plant: Callable[[Any], None], record: str, key: str, problem: str
) -> None:
    edit(data / name, plant)
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        _check(data / name, data, part)
    assert caught.value.file == str(data / name)
    assert record in caught.value.record and key in caught.value.key and caught.value.mend


def test_a_box_may_leave_its_image_by_less_than_a_pixel(data: Path, edit: Edit) -> None:
    edit(data / COCO, _set("annotations", 0, "bbox", [-0.4, 3, 40.9, 27.2]))
    _check(data / COCO, data / "reports")
    assert (data / "reports/checks/boxes.json").is_file()


MALFORMED = [
    (lambda c: c["annotations"][2].pop("bbox"), "annotations 201", "bbox", "the key is missing"),
    (lambda c: c["annotations"][2].pop("id"), "annotations, item 2", "id", "the key is missing"),
    (lambda c: c["images"][1].pop("width"), "images 2", "width", "the key is missing"),
    (lambda c: c["categories"].__setitem__(1, "ring"), "categories, item 1", "id", "the key is missing"),
    (lambda c: c.pop("annotations"), None, "annotations", "no such list"),
    (_set("annotations", 2, "bbox", [1, 2, 3]), "annotation 201", "bbox", "a list of four numbers"),
    (_set("annotations", 2, "bbox", [1, 2, 3, "4"]), "annotation 201", "bbox", "a list of four numbers"),
    (_set("annotations", 2, "bbox", None), "annotations 201", "bbox", "expected a list, got 'None'"),
    (_set("annotations", 2, "image_id", "2"), "annotations 201", "image_id", "expected a whole number"),
    (_set("images", 0, "width", 40.0), "images 1", "width", "expected a whole number"),
]


@pytest.mark.parametrize(("plant", "record", "key", "problem"), MALFORMED)
def test_a_missing_or_ill_typed_key_is_named(
    data: Path, edit: Edit, plant: Callable[[Any], None], record: str | None, key: str, problem: str
) -> None:
    edit(data / COCO, plant)
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        read_box_tables(data / COCO, "coco")
    assert (Path(caught.value.file), caught.value.record, caught.value.key) == (data / COCO, record, key)
    assert caught.value.mend and caught.value.exit_code == 3


def test_files_that_are_no_annotations_are_refused(data: Path) -> None:
    (data / COCO).write_text('{"images": [')
    with pytest.raises(InputError, match=r"instances_train_base\.json: not JSON"):
        read_box_tables(data / COCO, "coco")
    (data / COCO).write_text("[]")
    with pytest.raises(DataCheckFailed, match="the top level is no object"):
        read_box_tables(data / COCO, "coco")


def test_a_file_without_boxes_fails(data: Path, edit: Edit) -> None:
    edit(data / COCO, lambda content: content["annotations"].clear())
    with pytest.raises(DataCheckFailed, match=r"the file holds no box \(found 0\)"):
        _check(data / COCO, data)
