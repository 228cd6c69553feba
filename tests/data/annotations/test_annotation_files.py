"""Annotation files are refused with record and key, and keeping classes keeps neither too much nor too little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionclip.data.annotations.annotation_files import keep_categories, listed, picture_name, read_annotations
from regionclip.errors import InputError
from regionclip.files import write_json

KEYS = {"images": ("id",), "annotations": ("id", "image_id", "category_id"), "categories": ("id", "name")}


def _content() -> dict[str, Any]:
    return {
        "images": [{"id": 1}, {"id": 2}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 3}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    }


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("categories"), r"key 'categories': the list is missing"),
        (lambda c: c.update(images={}), r"key 'images': the list is missing"),
        (lambda c: c["annotations"][0].pop("image_id"), r"record annotations\[0\], key 'image_id'"),
        (lambda c: c["images"].append(7), r"record images\[2\], key 'id'"),
        (
            lambda c: c["annotations"][0].update(category_id=9),
            r"annotation 5, key 'category_id'.*among the categories",
        ),
        (lambda c: c["annotations"][0].update(image_id=9), r"annotation 5, key 'image_id'.*among the images"),
        (lambda c: c["categories"][1].update(id=3), r"key 'id': more than once: '3'"),
        (lambda c: c["categories"][1].update(name="cat"), r"key 'name': more than once: 'cat'"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, edit: Any, message: str) -> None:
    content = _content()
    edit(content)
    write_json(tmp_path / "a.json", content)
    with pytest.raises(InputError, match=rf"a\.json.*{message}"):
        read_annotations(tmp_path / "a.json", KEYS)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"instances\.json: the file does not exist"):
        read_annotations(tmp_path / "instances.json", KEYS)


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
