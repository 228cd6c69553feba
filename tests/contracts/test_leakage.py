"""assert_no_novel: the plain check that the rpn stage repeats before it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regionclip.data.annotations.annotation_files import assert_no_novel
from regionclip.errors import InputError

Edit = Callable[[Path, Callable[[Any], None]], None]


@pytest.fixture
def coco(data: Path) -> tuple[Path, Path]:
    return data / "sets/coco/annotations/train.json", data / "sets/coco/classes.json"


def test_base_boxes_pass_and_are_counted(coco: tuple[Path, Path], clean_data: Path) -> None:
    assert assert_no_novel(*coco) == 6
    lvis = clean_data / "sets/lvis"
    assert assert_no_novel(lvis / "annotations/train.json", lvis / "classes.json") == 6


def _renamed(content: Any) -> None:
    """Ring boxes under the id of star: the id is base, the name is not."""
    content["categories"][0]["name"] = "ring"


def _novel(content: Any) -> None:
    content["annotations"][3]["category_id"] = 2
    content["categories"].append({"id": 2, "name": "ring"})


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (_novel, "record annotation 203, key 'category_id': a training box of class 2 'ring', which is novel in"),
        (_renamed, "record annotation 101.*class 1 'ring', which is no base class"),
        (
            lambda c: c["annotations"][0].update(category_id=77),
            "record annotation 101, key 'category_id': there is no such category",
        ),
        (
            lambda c: c["annotations"][0].pop("category_id"),
            "record annotation 101, key 'category_id': there is no such category",
        ),
        (lambda c: c["categories"][0].pop("name"), r"record categories\[0\], key 'name'"),
        (lambda c: c.pop("annotations"), "key 'annotations': the list is missing"),
    ],
)
def test_anything_else_is_refused(
    coco: tuple[Path, Path], edit: Edit, plant: Callable[[Any], None], message: str
) -> None:
    edit(coco[0], plant)
    with pytest.raises(InputError, match=f"train.json, {message}.*To mend"):
        assert_no_novel(*coco)


def test_a_class_without_split_and_an_absent_file_are_refused(coco: tuple[Path, Path], edit: Edit) -> None:
    edit(coco[1], lambda content: content["classes"][0].pop("split"))
    with pytest.raises(InputError, match=r"classes\.json, record 0, key 'split': the key is missing"):
        assert_no_novel(*coco)
    with pytest.raises(InputError, match="does not exist"):
        assert_no_novel(coco[0], coco[1].with_name("absent.json"))
