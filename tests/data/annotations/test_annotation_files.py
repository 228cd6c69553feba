"""What tools write is understood, or refused with record and key; keeping classes keeps what it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionclip.data.annotations.annotation_files import (
    class_name,
    keep_categories,
    listed,
    mask_problem,
    names_with_boxes,
    picture_name,
    read_boxes,
    sort_records,
)
from regionclip.errors import InputError
from regionclip.files import write_json

FILE = Path("a.json")


def _content() -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in (1, 2)],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 12], "area": 99, "iscrowd": 0},
            {"id": 6, "image_id": 2, "category_id": 4, "bbox": [1, 2, 10, 12], "area": 99, "iscrowd": 0},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    }


def _read(content: dict[str, Any]) -> dict[str, Any]:
    return sort_records(content, FILE, "coco").sound()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("categories"), r"key 'categories': the list is missing"),
        (lambda c: c.update(images={}), r"key 'images': the list is missing"),
        (lambda c: c["annotations"][0].pop("image_id"), r"record annotation 5, key 'image_id': there is no such image"),
        (lambda c: c["images"].append(7), r"record images\[2\], key 'id': the record is no object \(7\)"),
        (lambda c: c["annotations"][0].update(category_id=9), r"annotation 5, key 'category_id': .* category \(9\)"),
        (lambda c: c["annotations"][0].update(image_id="0001"), r"annotation 5, key 'image_id': .* image \('0001'\)"),
        (lambda c: c["categories"][1].update(id=3), r"key 'id': more than once: '3'"),
        (lambda c: c["categories"][1].update(id="3"), r"key 'id': more than once: '3'"),
        (lambda c: c["categories"][1].update(name="cat "), r"key 'name': more than once: 'cat'"),
        (lambda c: c["categories"][1].update(name=None), r"record categories\[1\], key 'name': .* got None"),
        (lambda c: c["categories"][1].update(name="\n"), r"record categories\[1\], key 'name': .* got '\\n'"),
        (lambda c: c["categories"][1].update(name="a\x1b[1m"), r"key 'name': .* got 'a\\x1b\[1m'"),
        (lambda c: c["categories"][1].pop("id"), r"record categories\[1\], key 'id': .* got None"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, edit: Any, message: str) -> None:
    content = _content()
    edit(content)
    write_json(tmp_path / "a.json", content)
    with pytest.raises(InputError, match=rf"a\.json.*{message}"):
        read_boxes(tmp_path / "a.json").sound()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"instances\.json: the file does not exist"):
        read_boxes(tmp_path / "instances.json")


def test_a_sound_file_is_passed_on_as_it_is() -> None:
    content = _content()
    kept = _read(content)
    assert kept == content and kept["annotations"][0] is content["annotations"][0]


@pytest.mark.parametrize("kind", [str, float, lambda number: f" {number} "])
def test_one_id_may_be_written_as_number_and_as_text(kind: Any) -> None:
    """Of images, annotations and categories, and each side of a reference by itself."""
    for part, key in (
        ("images", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("categories", "id"),
    ):
        content = _content()
        for record in content[part]:
            record[key] = kind(record[key])
        assert _read(content) == _content(), (part, key)


def test_ids_that_are_no_numbers_are_numbered_anew_and_the_others_stay() -> None:
    content = _content()
    content["images"] = [image | {"id": key} for image, key in zip(content["images"], ("0001", 10**30), strict=True)]
    content["images"].append({"id": 1, "file_name": "c.jpg", "width": 40, "height": 30})
    for annotation, key in zip(content["annotations"], ("0001", 10**30), strict=True):
        annotation["image_id"] = key
    kept = _read(content)
    assert [image["id"] for image in kept["images"]] == [2, 3, 1]
    assert [annotation["image_id"] for annotation in kept["annotations"]] == [2, 3]


@pytest.mark.parametrize("area", [0, None, -1, "120", float("nan"), float("inf"), 10**400, 169, True])
def test_an_area_that_is_none_is_the_boxes(area: Any) -> None:
    """The box is 10 x 12; with the pixel that it may be off on each side, an object of it has 168 at most."""
    content = _content()
    content["annotations"][0]["area"] = area
    content["annotations"][1].pop("area")
    assert [annotation["area"] for annotation in _read(content)["annotations"]] == [120, 120]


@pytest.mark.parametrize(
    ("marks", "crowd"),
    [
        ({"iscrowd": True}, 1), ({"iscrowd": "1"}, 1), ({"iscrowd": 1.0}, 1), ({"iscrowd": None}, 0),
        ({"iscrowd": "false"}, 0), ({"ignore": 1}, 1), ({"ignore": True}, 1), ({"ignore": "0"}, 0),
    ],
)  # fmt: skip
def test_marks_of_any_spelling_make_a_crowd_or_none(marks: dict[str, Any], crowd: int) -> None:
    content = _content()
    content["annotations"][0] |= marks
    content["annotations"][1].pop("iscrowd")
    kept = _read(content)
    assert [annotation["iscrowd"] for annotation in kept["annotations"]] == [crowd, 0]
    assert names_with_boxes(kept) == ({"dog"} if crowd else {"cat", "dog"})


@pytest.mark.parametrize(
    ("name", "read"), [("stop_sign", "stop_sign"), ("bat (animal)",) * 2, (" a  b\n", "a b"), (7, "7")]
)
def test_names_are_texts_without_spaces_around_them_and_only_lvis_are_cleaned(name: Any, read: str) -> None:
    content = _content()
    content["categories"][0]["name"] = name
    category = _read(content)["categories"][0]
    assert category["name"] == class_name(category) == read
    assert class_name({"name": "bat_(animal)", "frequency": "r"}) == "bat animal"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists))
def test_whatever_stands_in_a_record_nothing_but_an_input_error_leaves(value: Any) -> None:
    """One value in place of each key of each record, and of each record and list."""
    for part, records in _content().items():
        for key in (None, *records[0], "ignore", "segmentation"):
            content = json.loads(json.dumps(_content()))
            content[part][0] = content[part][0] | {key: value} if key else value
            try:
                boxes = sort_records(content, FILE, "coco")
            except InputError:
                continue
            lost = boxes.listed["annotations"] - len(boxes.content["annotations"])
            assert lost == sum(fault.part == "annotations" for fault in boxes.faults)
            assert sort_records(boxes.content, FILE, "coco").faults == [], "what is left is sound"


MASKS = [
    ([[1, 1, 5, 1, 5, 5]], None),
    ([[1, 1], [1, 1, 5, 1, 5, 5]], None),
    ({"counts": [0, 3, 9], "size": [3, 4]}, None),
    ({"counts": "336", "size": [3, 4]}, None),
    (None, "there is no mask"),
    ([], "the mask is empty"),
    ([[]], "no polygon of the mask has three points"),
    ([[1, 1, 5, 1]], "no polygon of the mask has three points"),
    ([["1"] * 6], "the mask is no list of polygons"),
    ([[float("nan")] * 6], "the mask is no list of polygons"),
    ({"counts": [0, 3, 8], "size": [3, 4]}, "the mask's run lengths are not those of its image"),
    ({"counts": [-1, 13], "size": [3, 4]}, "the mask's run lengths are not those of its image"),
    ({"counts": [12], "size": [4, 3]}, "the mask has another size than its image"),
    ({"counts": 5, "size": [3, 4]}, "the mask's run lengths cannot be read"),
    ({"counts": "~~~~", "size": [3, 4]}, "the mask's run lengths cannot be read"),
]


@pytest.mark.parametrize(("segmentation", "problem"), MASKS)
def test_masks_of_every_form_are_told(segmentation: Any, problem: str | None) -> None:
    assert mask_problem(segmentation, (3, 4)) == problem


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), max_size=20), st.sets(st.integers(1, 5)), st.booleans()
)
def test_keeping_classes_drops_just_the_others(pairs: list[tuple[int, int]], ids: set[int], keep_empty: bool) -> None:
    """An image stays if and only if one of its annotations does (or all stay); keeping twice is keeping once."""
    content = {
        "images": [{"id": image} for image in range(1, 7)],
        "annotations": [{"image_id": image, "category_id": category} for image, category in pairs],
        "categories": [{"id": category} for category in range(1, 6)],
        "info": "stays",
    }
    kept = keep_categories(content, ids, keep_empty=keep_empty)
    wanted = [(image, category) for image, category in pairs if category in ids]
    assert [(a["image_id"], a["category_id"]) for a in kept["annotations"]] == wanted
    assert {c["id"] for c in kept["categories"]} == ids
    images = set(range(1, 7)) if keep_empty else {image for image, _ in wanted}
    assert {image["id"] for image in kept["images"]} == images
    assert kept["info"] == "stays"
    assert keep_categories(kept, ids, keep_empty=keep_empty) == kept


def test_pictures_are_named_by_file_or_by_address() -> None:
    url = "http://images.cocodataset.org/val2017/000000397133.jpg"
    assert picture_name({"coco_url": url}) == "val2017/000000397133.jpg"
    assert picture_name({"coco_url": url, "file_name": "a.jpg"}) == "a.jpg"


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed(range(15)).endswith("'11' and 3 more")
