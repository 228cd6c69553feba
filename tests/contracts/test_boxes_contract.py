"""Contract of annotation files: the clean ones pass, and each planted fault is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regionclip.contracts.boxes import (
    BoxTables,
    account_check,
    box_account,
    box_checks,
    box_tables,
    join_tables,
    mask_check,
)
from regionclip.contracts.gate import gate, run_checks
from regionclip.data.annotations.annotation_files import RULES, read_boxes
from regionclip.errors import DataCheckFailed, InputError

COCO, LVIS = "sets/coco/annotations/train.json", "sets/lvis/annotations/train.json"
Edit = Callable[[Path, Callable[[Any], None]], None]


def _tables(file: Path, **options: bool) -> BoxTables:
    return box_tables(read_boxes(file, "lvis" if "lvis" in file.parts else "coco"), **options)


def _check(file: Path, reports: Path) -> None:
    gate("boxes", box_checks("coco", _tables(file)), reports)


@pytest.mark.parametrize("kind", ["coco", "lvis"])
def test_clean_files_pass(clean_data: Path, kind: str) -> None:
    files = sorted((clean_data / "sets" / kind / "annotations").iterdir())
    tables = join_tables(_tables(file) for file in files)
    assert (len(tables.images), len(tables.annotations), len(tables.faults)) == (9, 24, 0)
    results = run_checks(box_checks(kind, tables))
    assert all(result["success"] for result in results)
    problems = {result["problem"] for result in results}
    assert problems >= {rule.problem for rules in RULES.values() for rule in rules}, "each rule is asked"


def test_lvis_pictures_are_named_by_the_end_of_their_address(clean_data: Path) -> None:
    assert _tables(clean_data / LVIS).images["name"].tolist() == [f"train/{number:012d}.jpg" for number in (1, 2, 3)]


def _set(part: str, at: int, key: str, value: Any) -> Callable[[Any], None]:
    return lambda content: content[part][at].__setitem__(key, value)


NAN, INF = float("nan"), float("inf")
NOT_ALL = "not_exhaustive_category_ids"
FAULTS = [
    (COCO, _set("annotations", 1, "id", 101), "annotations[1]", "id", "an id occurs twice"),
    (COCO, lambda c: c["annotations"][2].pop("id"), "annotations[2]", "id", "there is no id"),
    (COCO, _set("images", 1, "id", 1), "images[1]", "id", "an id occurs twice"),
    (COCO, _set("images", 1, "file_name", "000000000001.jpg"), "image 2", "file_name", "an image occurs twice"),
    (COCO, _set("images", 0, "width", 0), "image 1", "width", "no width in whole pixels"),
    (COCO, lambda c: c["images"][1].pop("height"), "image 2", "height", "no height in whole pixels"),
    (COCO, _set("images", 0, "file_name", "../x.jpg"), "image 1", "file_name", "leads out of its folder"),
    (COCO, _set("annotations", 0, "image_id", 77), "annotation 101", "image_id", "no such image"),
    (COCO, _set("annotations", 0, "category_id", 77), "annotation 101", "category_id", "no such category"),
    (COCO, _set("annotations", 0, "bbox", [30, 3, 12, 5]), "annotation 101", "bbox", "the box leaves its image"),
    (COCO, _set("annotations", 0, "bbox", [2, -3, 5, 5]), "annotation 101", "bbox", "the box leaves its image"),
    (
        COCO,
        _set("annotations", 0, "bbox", [40, 3, 1, 5]),
        "annotation 101",
        "bbox",
        "the box has no pixel of its image",
    ),
    (COCO, _set("annotations", 0, "bbox", [2, 3, 0, 5]), "annotation 101", "bbox", "the box is empty"),
    (COCO, _set("annotations", 0, "bbox", [2, 3, 5, -1]), "annotation 101", "bbox", "the box has a negative size"),
    (COCO, _set("annotations", 0, "bbox", [2, 3, NAN, 5]), "annotation 101", "bbox", "not finite"),
    (COCO, _set("annotations", 0, "bbox", [2, 3, INF, 5]), "annotation 101", "bbox", "not finite"),
    (COCO, _set("annotations", 2, "bbox", [1, 2, 3, "4"]), "annotation 201", "bbox", "not a list of four numbers"),
    (COCO, _set("annotations", 2, "bbox", None), "annotation 201", "bbox", "not a list of four numbers"),
    (COCO, _set("annotations", 0, "iscrowd", 2), "annotation 101", "iscrowd", "iscrowd is neither 0 nor 1"),
    (LVIS, _set("images", 0, "neg_category_ids", [1]), "annotation 101", "category_id", "lists it as absent"),
    (LVIS, _set("images", 0, "neg_category_ids", 1), "image 1", "neg_category_ids", "is no list of categories"),
    (LVIS, lambda c: c["images"][0].pop(NOT_ALL), "image 1", NOT_ALL, "is no list of categories"),
    (LVIS, lambda c: c["images"][0].pop("coco_url"), "image 1", "file_name", "there is no file name"),
    (LVIS, _set("annotations", 0, "segmentation", []), "annotation 101", "segmentation", "there is no mask"),
]


@pytest.mark.parametrize(("name", "plant", "record", "key", "problem"), FAULTS)
def test_a_planted_fault_is_named(
    data: Path, edit: Edit, name: str, plant: Callable[[Any], None], record: str, key: str, problem: str
) -> None:
    edit(data / name, plant)
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        _check(data / name, data)
    assert (caught.value.file, caught.value.record, caught.value.key) == (str(data / name), record, key)
    assert caught.value.mend and caught.value.exit_code == 3


def test_messages_name_the_file_that_the_user_wrote(data: Path, edit: Edit) -> None:
    edit(data / COCO, _set("annotations", 0, "bbox", [2, 3, 0, 5]))
    tables = box_tables(read_boxes(data / COCO, shown=Path("mine.json")))
    with pytest.raises(DataCheckFailed, match=r"^mine\.json, record annotation 101, key 'bbox'"):
        gate("boxes", box_checks("coco", tables), data)


def test_a_box_may_leave_its_image_by_less_than_a_pixel(data: Path, edit: Edit) -> None:
    edit(data / COCO, _set("annotations", 0, "bbox", [-0.4, 3, 40.9, 27.2]))
    _check(data / COCO, data / "reports")
    assert (data / "reports/checks/boxes.json").is_file()


def test_files_that_are_no_annotations_are_refused(data: Path) -> None:
    (data / COCO).write_text('{"images": [')
    with pytest.raises(InputError, match=r"train\.json: not JSON"):
        read_boxes(data / COCO)
    (data / COCO).write_text("[]")
    with pytest.raises(InputError, match="key 'images': the list is missing"):
        read_boxes(data / COCO)


def test_a_file_without_boxes_fails(data: Path, edit: Edit) -> None:
    edit(data / COCO, lambda content: content["annotations"].clear())
    with pytest.raises(DataCheckFailed, match=r"the file lists no annotation \(found 0\)"):
        _check(data / COCO, data)


def test_masks_that_are_asked_for_and_not_there_are_named_with_the_param(data: Path, edit: Edit) -> None:
    file = data / COCO
    square = [[2, 2, 12, 2, 12, 10]]
    edit(file, lambda c: [a.update(segmentation=square) for a in c["annotations"]])
    assert gate("masks", [mask_check("coco", _tables(file, masks=True).annotations)], data)
    edit(file, _set("annotations", 2, "segmentation", {"counts": [7], "size": [7, 1]}))
    with pytest.raises(DataCheckFailed, match="id 201, segmentation the mask has another size") as caught:
        gate("masks", [mask_check("coco", _tables(file, masks=True).annotations)], data)
    assert caught.value.key == "finetune.sets.coco.masks"


def test_each_box_is_accounted_for(data: Path, edit: Edit) -> None:
    """Of six boxes one is a crowd, one is to be ignored, one is thin, one is of another class; one more went before."""

    def change(content: Any) -> None:
        changes = ({"iscrowd": 1}, {"ignore": 1}, {"bbox": [2, 3, 0.5, 5]}, {"category_id": 3}, {"category_id": 1})
        for annotation, values in zip(content["annotations"], changes, strict=False):
            annotation.update({"category_id": 1, **values})

    edit(data / COCO, change)
    tables, source = _tables(data / COCO), {"annotations": 9, "set_aside": {"the box is empty": 1}}
    trained = box_account(tables.annotations, source, 2, base=[1], used=1)
    reasons = {
        "the box is empty": 1, "a crowd": 1, "marked 'ignore'": 1, "below one pixel": 1,
        "of a class that the split does not use": 4,
    }  # fmt: skip
    assert trained == {"file": 9, "used": 1, "not_used": reasons, "unexplained": 0}
    measured = box_account(tables.annotations, source, 2)
    assert (measured["used"], measured["unexplained"], "below one pixel" in measured["not_used"]) == (4, 0, False)
    lost = box_account(tables.annotations, source, 2, base=[1], used=0)
    with pytest.raises(DataCheckFailed, match=r"^a\.json, record split train, .* boxes are lost without a reason"):
        gate("account", [account_check("coco", {"train": Path("a.json")}, {"train": lost})], data)
