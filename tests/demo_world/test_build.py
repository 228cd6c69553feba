"""The demo world is deterministic, whole or absent, and described by its manifests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from regionclip.demo_world import build_demo_world
from regionclip.files import read_json, sha256_file, sha256_tree


def _smaller(spec: SimpleNamespace) -> SimpleNamespace:
    sizes = {"pairs_train": 3, "pairs_val": 1, "scenes": 3, "coco_train": 2, "coco_dev": 1, "coco_val": 1}
    return SimpleNamespace(**vars(spec) | sizes | {"lvis_train": 16, "lvis_dev": 16, "lvis_val": 16})


def test_same_seed_gives_the_same_bytes_in_one_process_and_in_two(tmp_path: Path, tiny_spec: SimpleNamespace) -> None:
    spec = _smaller(tiny_spec)
    for workers in (1, 2):
        build_demo_world(tmp_path / str(workers), spec, seed=3, workers=workers)
    assert sha256_tree(tmp_path / "1") == sha256_tree(tmp_path / "2")


def test_another_seed_gives_other_pictures(world: Path, tmp_path: Path, tiny_spec: SimpleNamespace) -> None:
    build_demo_world(tmp_path, _smaller(tiny_spec), seed=1, workers=1)
    first = "scenes/images/000000000001.jpg"
    assert sha256_file(world / first) != sha256_file(tmp_path / first)


def test_a_picture_does_not_change_when_its_set_grows(world: Path, tmp_path: Path, tiny_spec: SimpleNamespace) -> None:
    build_demo_world(tmp_path, _smaller(tiny_spec), seed=0, workers=1)
    files = [
        path.relative_to(tmp_path) for name in ("scenes/images", "coco") for path in (tmp_path / name).rglob("*.jpg")
    ]
    assert len(files) == 7
    assert all(sha256_file(world / file) == sha256_file(tmp_path / file) for file in files)


def test_manifests_count_and_sum_what_is_there(world: Path, tiny_spec: SimpleNamespace) -> None:
    for name in ("pairs", "scenes", "coco", "lvis"):
        manifest = read_json(world / name / "manifest.json")
        assert manifest["source"] == "demo"
        assert manifest["generator"]["seed"] == 0
        for file, digest in manifest["sha256"].items():
            assert digest == sha256_tree(world / name / file)
    assert read_json(world / "pairs/manifest.json")["counts"] == {"train": 12, "val": 4}
    assert read_json(world / "scenes/manifest.json")["counts"] == {"images": 24, "captions": 48, "objects_left_out": 0}
    assert read_json(world / "lvis/manifest.json")["counts"]["val_images"] == tiny_spec.lvis_val


def test_objects_that_find_no_place_are_counted(tmp_path: Path, tiny_spec: SimpleNamespace) -> None:
    crowded = {"objects_per_scene": (6, 6), "object_size": (150, 160), "distractors": (0, 0)}
    counts = build_demo_world(tmp_path, SimpleNamespace(**vars(_smaller(tiny_spec)) | crowded), seed=0, workers=1)
    truth = read_json(tmp_path / "scenes_truth/instances.json")
    assert counts["scenes"]["objects_left_out"] == 18 - len(truth["annotations"]) > 0
