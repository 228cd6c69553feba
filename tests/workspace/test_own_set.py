"""A look at one's own data finds what is missing, what the gate will refuse and what one should know."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regionclip.errors import InputError
from regionclip.files import read_json, write_json
from regionclip.workspace.own_set import OwnSet, read_own_set

Content = dict[str, Any]
MARKS = ({"ignore": 1}, {"iscrowd": True})


def _read(toys: Path, base: list[str] | None = None, novel: list[str] | None = None) -> OwnSet:
    files = {split: toys / f"{split}.json" for split in ("train", "val")}
    return read_own_set(files, dict.fromkeys(files, toys / "pictures"), base, novel)


def _edit(file: Path, change: Callable[[Content], Any]) -> None:
    content = read_json(file)
    change(content)
    write_json(file, content)


def test_without_names_every_class_is_base(toys: Path) -> None:
    own = _read(toys)
    assert own.classes.base == ["star", "heart", "ring"] and own.classes.novel == []
    assert own.images == {"train": 12, "val": 6} and (own.faults, own.notes) == ([], [])
    content = read_json(toys / "train.json")
    for number, name in enumerate(own.classes.base, 1):
        assert own.boxes["train"][name] == sum(a["category_id"] == number for a in content["annotations"])


def test_novel_classes_leave_the_base_and_their_training_boxes_are_counted(toys: Path) -> None:
    own = _read(toys, novel=["ring"])
    assert (own.classes.base, own.classes.novel) == (["star", "heart"], ["ring"])
    assert own.notes == [f"{own.boxes['train']['ring']} training boxes of novel classes are kept from training"]
    assert len(own.sides) == own.boxes["train"]["star"] + own.boxes["train"]["heart"]


def test_classes_that_are_not_named_are_said_to_be_left_out(toys: Path) -> None:
    own = _read(toys, base=["heart"])
    assert own.classes.base == ["heart"] and "left out, with their boxes: 'ring', 'star'" in own.notes


def test_a_category_without_any_box_is_no_class(toys: Path) -> None:
    """Roboflow's exports begin with a category that stands for all of them."""
    for split in ("train", "val"):
        _edit(toys / f"{split}.json", lambda c: c["categories"].insert(0, {"id": 0, "name": "toys"}))
    assert _read(toys).classes.base == ["star", "heart", "ring"]


def test_sides_are_relative_to_the_shorter_side_of_the_picture(toys: Path) -> None:
    """Pictures are 240 x 180; a box of 90 x 40 has the root area 60, a third."""
    _edit(toys / "train.json", lambda c: [a.update(bbox=[0, 0, 90, 40]) for a in c["annotations"]])
    assert all(math.isclose(side, 60 / 180) for side in _read(toys).sides)


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([1, 1, -5, 5], "the box has a negative size"),
        ([1, 1, 0, 5], "the box is empty"),
        ([1, 1, math.nan, 5], "the box holds a value that is not finite"),
        (["1", "1", "5", "5"], "the box is not a list of four numbers"),
        ([200, 100, 42, 10], "the box leaves its image"),
    ],
)
def test_wrong_boxes_are_counted_by_kind_and_shape_no_anchor(toys: Path, box: Any, fault: str) -> None:
    before = _read(toys)
    for split in ("train", "val"):
        _edit(toys / f"{split}.json", lambda c: [c["annotations"][i].update(bbox=box) for i in (1, 3)])
    own = _read(toys)
    assert [line.split(" (such as annotation 2, bbox ")[0] for line in own.faults] == [
        f"toys/{split}.json: 2 x {fault}" for split in ("train", "val")
    ]
    assert len(own.sides) == len(before.sides) - 2
    assert sorted(file.name for file in toys.parent.iterdir()) == ["toys"]


def test_a_file_with_wrong_boxes_only_stops(toys: Path) -> None:
    _edit(toys / "train.json", lambda c: [a.update(bbox=[0, 0, 0, 0]) for a in c["annotations"]])
    with pytest.raises(InputError, match=r"train\.json: no box can be learned from: .* x the box is empty"):
        _read(toys)


def test_a_box_may_leave_its_image_by_the_pixel_that_rounding_takes(toys: Path) -> None:
    _edit(toys / "val.json", lambda c: c["annotations"][0].update(bbox=[-1, 0, 242, 181]))
    assert _read(toys).faults == []


def test_pictures_in_both_files_are_a_fault(toys: Path) -> None:
    _edit(toys / "val.json", lambda c: c["images"][0].update(file_name="train_0003.jpg"))
    assert _read(toys).faults == ["1 pictures are in train and in val: 'train_0003.jpg'"]


def test_names_that_no_caption_has_are_noted(toys: Path) -> None:
    for split in ("train", "val"):
        _edit(toys / f"{split}.json", lambda c: c["categories"][0].update(name="Big_Star"))
    assert [note.split(" would")[0] for note in _read(toys).notes] == ["CLIP reads names as words: 'Big_Star'"]


def test_a_name_is_not_advised_to_become_that_of_another_class(toys: Path) -> None:
    for split in ("train", "val"):
        _edit(toys / f"{split}.json", lambda c: c["categories"][0].update(name="Ring"))
    assert _read(toys).notes == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"bbox": None}, "1 x the box is not a list of four numbers (such as annotation 1, bbox None)"),
        ({"image_id": "0099"}, "1 x there is no such image (such as annotation 1, image_id '0099')"),
        ({"category_id": 99}, "1 x there is no such category (such as annotation 1, category_id 99)"),
        ({"id": 2}, "1 x an id occurs twice (such as annotations[1], id 2)"),
    ],
)
def test_what_the_stages_set_aside_is_told_with_its_value(toys: Path, change: dict[str, Any], fault: str) -> None:
    _edit(toys / "train.json", lambda c: c["annotations"][0].update(change))
    assert _read(toys).faults == [f"toys/train.json: {fault}"]


def test_boxes_that_are_neither_trained_on_nor_measured_are_noted(toys: Path) -> None:
    before = _read(toys)
    _edit(toys / "val.json", lambda c: [a.update(mark) for a, mark in zip(c["annotations"], MARKS, strict=False)])
    own = _read(toys)
    assert own.notes == [
        "toys/val.json: 2 boxes are crowds, 1 of them by the mark 'ignore': neither trained on nor measured"
    ]
    assert own.boxes["val"].total() == before.boxes["val"].total() - 2


def test_classes_without_boxes_are_noted(toys: Path) -> None:
    _edit(toys / "train.json", lambda c: [a.update(category_id=1) for a in c["annotations"]])
    _edit(toys / "val.json", lambda c: [a.update(category_id=2) for a in c["annotations"]])
    assert _read(toys).notes[-2:] == [
        "base classes without a training box: 'heart'",
        "classes without a box in val, which cannot be measured: 'star'",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["images"][2].update(file_name="no.jpg"),
            r"1 of the 12 pictures of train\.json.*'no\.jpg'",
        ),
        (lambda c: c["images"].clear() or c["annotations"].clear(), r"train\.json, key 'images': the file lists no im"),
        (lambda c: c.pop("categories"), r"train\.json, key 'categories': the list is missing"),
        (lambda c: [a.update(iscrowd=1) for a in c["annotations"]], r"no box can be .* boxes are crowds, 0 of them by"),
        (lambda c: [a.update(ignore=1) for a in c["annotations"]], r"no box can be learned from: .* mark 'ignore'"),
        (lambda c: [i.update(file_name="../a.jpg") for i in c["images"]], r"such as image 1, file_name '\.\./a\.jpg'"),
        (lambda c: c["categories"][0].update(name="ring"), r"more than once: 'ring'"),
    ],
)
def test_what_cannot_be_read_stops_with_its_place(toys: Path, change: Any, message: str) -> None:
    _edit(toys / "train.json", change)
    with pytest.raises(InputError, match=message):
        _read(toys)


@pytest.mark.parametrize(
    ("base", "novel", "message"),
    [
        (["star", "ring"], ["ring"], "more than once in base and novel: 'ring'"),
        ([], None, "no class is left for training"),
        (None, ["star", "heart", "ring"], "no class is left for training"),
        (["Star"], None, r"train\.json.*no class 'Star'. To mend: write 'star'"),
        (None, ["rings"], r"no class 'rings'. To mend: write 'ring'"),
    ],
)
def test_names_that_do_not_fit_stop(toys: Path, base: Any, novel: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _read(toys, base, novel)
