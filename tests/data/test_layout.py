"""Paths of detection sets and reading of class lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from regionclip.data.layout import DetectionSet, captioned_scenes, data_sets, detection_set, load_classes, splits
from regionclip.errors import InputError
from regionclip.files import write_json


def _classes(folder: Path, **more: str) -> None:
    classes = [{"id": 1, "name": "red star", "split": "base"} | more]
    write_json(folder / "classes.json", {"dataset": folder.name, "classes": classes})


def test_paths_of_the_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of files in LVIS's form are named from the set's folder, those of the others from their split's."""
    monkeypatch.chdir(tmp_path)
    _classes(Path("data/sets/forklifts"))
    _classes(Path("x/long_tail"), frequency="f")
    assert detection_set("forklifts", "train") == DetectionSet(
        Path("data/sets/forklifts/train"), Path("data/sets/forklifts/annotations/train.json")
    )
    assert detection_set("long_tail", "val", Path("x")) == DetectionSet(
        Path("x/long_tail"), Path("x/long_tail/annotations/val.json")
    )


@pytest.mark.parametrize(
    ("name", "split", "mend"), [("forklifts", "test", "use train, dev, val"), ("coco", "train", "use forklifts")]
)
def test_an_unknown_set_or_split_is_refused_with_those_that_there_are(
    tmp_path: Path, name: str, split: str, mend: str
) -> None:
    _classes(tmp_path / "forklifts")
    with pytest.raises(InputError, match=rf"no set '{name}/{split}'.*{mend}"):
        detection_set(name, split, tmp_path)


def test_without_a_set_the_stage_that_makes_them_is_named(tmp_path: Path) -> None:
    assert data_sets(tmp_path) == data_sets(tmp_path / "absent") == ()
    with pytest.raises(InputError, match="no set 'coco/train'.*run the stage 'data'"):
        detection_set("coco", "train", tmp_path)


def test_a_set_of_files_under_any_name(tmp_path: Path) -> None:
    """What is in the folder tells form and splits; the name tells nothing."""
    for name, more in {"forklifts": {}, "coco": {"frequency": "r"}}.items():
        _classes(tmp_path / name, **more)
        write_json(tmp_path / name / "pictures.json", {"train": "shots/a", "val": "shots/b"})
    assert data_sets(tmp_path) == ("coco", "forklifts")
    assert splits("forklifts", tmp_path) == ("train", "val")
    assert detection_set("forklifts", "val", tmp_path) == DetectionSet(
        Path("shots/b"), tmp_path / "forklifts/annotations/val.json"
    )
    assert [load_classes(name, tmp_path).federated for name in ("coco", "forklifts")] == [True, False]


def test_classes_are_read_in_the_order_of_ids(tmp_path: Path) -> None:
    entries = [
        {"id": 2, "name": "red ring", "split": "novel", "frequency": "r"},
        {"id": 1, "name": "red star", "split": "base", "frequency": "f"},
    ]
    write_json(tmp_path / "toys/classes.json", {"dataset": "toys", "classes": entries})
    classes = load_classes("toys", tmp_path)
    assert (classes.names, classes.ids) == (("red star", "red ring"), (1, 2))
    assert (classes.base_names, classes.novel_names) == (("red star",), ("red ring",))
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
    _classes(tmp_path / "sets/lvis")
    write_json(tmp_path / "scenes/captions.json", {})
    assert data_sets(tmp_path / "sets") == ("lvis",)
    assert splits("lvis", tmp_path / "sets") == ("train", "dev", "val")
    assert captioned_scenes(tmp_path) == (tmp_path / "scenes/captions.json", tmp_path / "scenes/images")


def test_a_broken_record_of_pictures_is_named(tmp_path: Path) -> None:
    _classes(tmp_path / "coco")
    write_json(tmp_path / "coco/pictures.json", {"train": "a"})
    with pytest.raises(InputError, match=r"coco/pictures\.json, key 'val'"):
        detection_set("coco", "val", tmp_path)
