"""Paths of detection sets and reading of class lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from regionclip.data.layout import captioned_scenes, data_sets, detection_set, load_classes, splits
from regionclip.errors import InputError
from regionclip.files import write_json


def test_paths_of_the_splits() -> None:
    assert detection_set("coco", "train").images == Path("data/sets/coco/train")
    assert detection_set("coco", "train").annotations == Path("data/sets/coco/annotations/train.json")
    assert detection_set("lvis", "val", Path("x")).images == Path("x/lvis")
    assert detection_set("lvis", "val", Path("x")).annotations == Path("x/lvis/annotations/val.json")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match="coco/test"):
        detection_set("coco", "test")


def test_classes_are_read_in_the_order_of_ids(tmp_path: Path) -> None:
    entries = [
        {"id": 2, "name": "red ring", "split": "novel", "frequency": "r"},
        {"id": 1, "name": "red star", "split": "base", "frequency": "f"},
    ]
    write_json(tmp_path / "lvis/classes.json", {"dataset": "lvis", "classes": entries})
    classes = load_classes("lvis", tmp_path)
    assert (classes.names, classes.ids) == (("red star", "red ring"), (1, 2))
    assert (classes.base, classes.novel) == ((True, False), (False, True))
    assert (classes.base_names, classes.novel_names) == (("red star",), ("red ring",))
    assert classes.frequency == {"red star": "f", "red ring": "r"}


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({}, "classes"),
        ({"classes": [{"id": 1, "split": "base"}]}, "name"),
        ({"classes": [{"id": 1, "name": "star", "split": "old"}]}, "split"),
    ],
)
def test_a_broken_class_list_is_named(tmp_path: Path, content: dict, key: str) -> None:
    write_json(tmp_path / "coco/classes.json", content)
    with pytest.raises(InputError, match=rf"classes\.json.*key '{key}'"):
        load_classes("coco", tmp_path)


def test_layout_and_the_stage_do_not_import_torch() -> None:
    modules = "regionclip.data.layout, regionclip.demo_world, regionclip.data.captions, regionclip.stages.data"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_demo_world_has_a_development_split_and_its_own_captions(tmp_path: Path) -> None:
    assert data_sets(tmp_path) == ()
    write_json(tmp_path / "lvis/classes.json", {})
    write_json(tmp_path / "scenes/captions.json", {})
    assert data_sets(tmp_path) == ("lvis",)
    assert splits("lvis", tmp_path) == ("train", "dev", "val")
    assert captioned_scenes(tmp_path) == (tmp_path / "scenes/captions.json", tmp_path / "scenes/images")


def test_a_broken_record_of_pictures_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "coco/pictures.json", {"train": "a"})
    with pytest.raises(InputError, match=r"coco/pictures\.json, key 'val'"):
        detection_set("coco", "val", tmp_path)
