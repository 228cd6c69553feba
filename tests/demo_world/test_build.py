"""The demo world is deterministic, whole or absent, and described by its manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regionclip.data.annotations.annotation_files import picture_name
from regionclip.data.layout import data_sets, detection_set, load_classes, splits
from regionclip.demo_world.build import build_demo_world
from regionclip.files import read_json, sha256_file, sha256_tree
from regionclip.params.data import DemoWorld
from tests.conftest import DEMO_SETS


def _smaller(spec: DemoWorld, **more: Any) -> DemoWorld:
    sizes = {"pairs_train": 3, "pairs_val": 1, "scenes": 3, "coco_train": 2, "coco_dev": 1, "coco_val": 1}
    return spec.model_copy(update={**sizes, "lvis_train": 16, "lvis_dev": 16, "lvis_val": 16, **more})


def test_same_seed_gives_the_same_bytes_in_one_process_and_in_two(tmp_path: Path, tiny_spec: DemoWorld) -> None:
    spec = _smaller(tiny_spec)
    for workers in (1, 2):
        build_demo_world(tmp_path / str(workers), spec, seed=3, workers=workers, sets=DEMO_SETS)
    assert sha256_tree(tmp_path / "1") == sha256_tree(tmp_path / "2")


def test_another_seed_gives_other_pictures(world: Path, tmp_path: Path, tiny_spec: DemoWorld) -> None:
    build_demo_world(tmp_path, _smaller(tiny_spec), seed=1, workers=1, sets=DEMO_SETS)
    first = "scenes/images/000000000001.jpg"
    assert sha256_file(world / first) != sha256_file(tmp_path / first)


def test_a_picture_does_not_change_when_its_set_grows(world: Path, tmp_path: Path, tiny_spec: DemoWorld) -> None:
    build_demo_world(tmp_path, _smaller(tiny_spec), seed=0, workers=1, sets=DEMO_SETS)
    files = [
        path.relative_to(tmp_path)
        for name in ("scenes/images", "sets/coco")
        for path in (tmp_path / name).rglob("*.jpg")
    ]
    assert len(files) == 7
    assert all(sha256_file(world / file) == sha256_file(tmp_path / file) for file in files)


def test_manifests_count_and_sum_what_is_there(world: Path, tiny_spec: DemoWorld) -> None:
    for name in ("pairs", "scenes", "sets/coco", "sets/lvis"):
        manifest = read_json(world / name / "manifest.json")
        assert manifest["source"] == "demo"
        assert manifest["generator"]["seed"] == 0
        for file, digest in manifest["sha256"].items():
            assert digest == sha256_tree(world / name / file)
    assert read_json(world / "pairs/manifest.json")["counts"] == {"train": 12, "val": 4}
    assert read_json(world / "scenes/manifest.json")["counts"] == {"images": 24, "captions": 48, "objects_left_out": 0}
    assert read_json(world / "sets/lvis/manifest.json")["counts"]["val_images"] == tiny_spec.lvis_val


def test_objects_that_find_no_place_are_counted(tmp_path: Path, tiny_spec: DemoWorld) -> None:
    crowded = {"objects_per_scene": (6, 6), "object_size": (150, 160), "distractors": (0, 0)}
    counts = build_demo_world(tmp_path, _smaller(tiny_spec, **crowded), seed=0, workers=1, sets=DEMO_SETS)
    truth = read_json(tmp_path / "scenes_truth/instances.json")
    assert counts["scenes"]["objects_left_out"] == 18 - len(truth["annotations"]) > 0


def test_sets_have_the_names_and_forms_asked_for(tmp_path: Path, tiny_spec: DemoWorld) -> None:
    """A set that is not named is not drawn; one of COCO's form is that of any other name."""
    spec = _smaller(tiny_spec)
    counts = build_demo_world(tmp_path / "one", spec, seed=0, workers=1, sets={"toys": "coco"})
    assert counts.keys() == {"pairs", "scenes", "toys"} and data_sets(tmp_path / "one/sets") == ("toys",)
    assert splits("toys", tmp_path / "one/sets") == ("train", "dev", "val")
    sets = {"coco": "coco", "long_tail": "lvis"}
    build_demo_world(tmp_path / "two", spec, seed=0, workers=1, sets=sets)
    assert data_sets(tmp_path / "two/sets") == ("coco", "long_tail")
    assert sha256_tree(tmp_path / "one/sets/toys") == sha256_tree(tmp_path / "two/sets/coco")
    assert load_classes("long_tail", tmp_path / "two/sets").federated
    val = detection_set("long_tail", "val", tmp_path / "two/sets")
    for image in read_json(val.annotations)["images"]:
        assert (val.images / picture_name(image)).is_file()
