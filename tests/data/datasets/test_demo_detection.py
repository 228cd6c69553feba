"""The COCO- and LVIS-format files follow their formats, and training files hold nothing novel."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from regionclip.data.layout import detection_set, load_classes
from regionclip.demo_world import coco_files, lvis_files, plans
from regionclip.demo_world.scenes import SceneObject, SceneRecord
from regionclip.demo_world.vocabulary import KINDS, SHAPE_SPLITS, Kind
from regionclip.files import read_json

FILES = [(name, split) for name in ("coco", "lvis") for split in ("train", "dev", "val")]


def _object(kind: Kind) -> SceneObject:
    return SceneObject(kind, (10, 20, 30, 40), 900, 1.0, [[10.0, 20.0, 40.0, 20.0, 40.0, 60.0]], [])


def _record(*kinds: Kind) -> SceneRecord:
    return SceneRecord(b"", "sand", [_object(kind) for kind in kinds])


@pytest.mark.parametrize(("name", "split"), FILES)
def test_annotations_lie_in_their_images_and_masks_agree_with_boxes(world: Path, name: str, split: str) -> None:
    paths = detection_set(name, split, world / "sets")
    content = read_json(paths.annotations)
    images = {image["id"]: image for image in content["images"]}
    for image in images.values():
        file = image.get("file_name") or image["coco_url"].replace("http://images.cocodataset.org/", "")
        with Image.open(paths.images / file) as opened:
            assert opened.size == (image["width"], image["height"])
    assert len({entry["id"] for entry in content["annotations"]}) == len(content["annotations"])
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        image = images[entry["image_id"]]
        assert 0 <= x < x + width <= image["width"]
        assert 0 <= y < y + height <= image["height"]
        runs = coco_mask.merge(coco_mask.frPyObjects(entry["segmentation"], image["height"], image["width"]))
        assert float(coco_mask.area(runs)) == pytest.approx(entry["area"], rel=0.08, abs=12)
        assert coco_mask.iou([coco_mask.toBbox(runs)], [entry["bbox"]], [0])[0, 0] > 0.85


def test_coco_training_file_holds_base_boxes_only(world: Path) -> None:
    content = read_json(world / "sets/coco/annotations/train.json")
    splits = {entry["id"]: SHAPE_SPLITS[entry["name"]] for entry in content["categories"]}
    assert set(splits.values()) == {"base"}
    assert len(splits) == 8
    assert all(entry["category_id"] in splits for entry in content["annotations"])
    assert {image["id"] for image in content["images"]} == {entry["image_id"] for entry in content["annotations"]}


def test_coco_base_only_keeps_ids_and_drops_images_without_base_box() -> None:
    star, ring = Kind("star", "red"), Kind("ring", "red")
    complete = coco_files.instances(7, 192, [_record(star, ring), _record(ring), _record(star)])
    base = coco_files.base_only(complete)
    assert [image["id"] for image in base["images"]] == [7, 9]
    assert [entry["id"] for entry in base["annotations"]] == [7, 10]
    assert len(complete["categories"]) == 12


def test_coco_evaluation_files_hold_all_classes(world: Path) -> None:
    content = read_json(world / "sets/coco/annotations/val.json")
    assert len(content["categories"]) == 12
    assert {entry["iscrowd"] for entry in content["annotations"]} == {0}
    assert any(SHAPE_SPLITS[coco_files.SHAPES[entry["category_id"] - 1]] == "novel" for entry in content["annotations"])


def test_frequency_follows_the_lvis_thresholds() -> None:
    assert [lvis_files.frequency(n, 1.0) for n in (1, 10, 11, 100, 101)] == ["r", "r", "c", "c", "f"]
    assert [lvis_files.frequency(n, 0.5) for n in (5, 6, 50, 51)] == ["r", "c", "c", "f"]


def test_lvis_categories_count_the_complete_training_annotations() -> None:
    star, fish = Kind("star", "red"), Kind("fish", "blue")
    complete = lvis_files.instances(0, "train", 1, 192, [_record(star, star, fish), _record(star)], 1.0)
    entries = {entry["name"]: entry for entry in lvis_files.categories(complete, 1.0)}
    assert len(entries) == 96
    assert entries["red_star"]["image_count"] == 2
    assert entries["blue_fish"] | {"id": 0} == {
        "id": 0,
        "name": "blue_fish",
        "synonyms": ["blue_fish"],
        "synset": "fish.n.01",
        "def": "a fish that is blue",
        "image_count": 1,
        "instance_count": 1,
        "frequency": "r",
    }


def test_the_long_tail_is_as_long_as_in_lvis() -> None:
    for seed in range(3):
        plan = plans.long_tail_plan(seed, "lvis/train", 1200, (2, 6), 1.0)
        images = Counter(kind for kinds in plan for kind in set(kinds))
        assert set(images) == set(KINDS)
        shares = Counter(lvis_files.frequency(count, 1.0) for count in images.values())
        assert 0.24 <= shares["r"] / 96 <= 0.36
        assert shares["c"] > shares["f"] >= 8


def test_the_flat_plan_shows_every_class_often_enough_to_measure() -> None:
    counts = Counter(kind for kinds in plans.flat_plan(0, "lvis/val", 300, (2, 6)) for kind in kinds)
    assert min(counts.values()) >= 8
    assert len(counts) == 96


def test_no_rare_object_reaches_the_lvis_training_file(world: Path) -> None:
    content = read_json(world / "sets/lvis/annotations/train.json")
    rare = {entry["id"] for entry in content["categories"] if entry["frequency"] == "r"}
    assert rare
    assert len(content["categories"]) == 96
    assert all(entry["instance_count"] >= 1 for entry in content["categories"])
    assert not rare & {entry["category_id"] for entry in content["annotations"]}
    assert not any(rare & set(image["not_exhaustive_category_ids"]) for image in content["images"])


def test_base_classes_are_counted_right_in_the_lvis_training_file(world: Path) -> None:
    content = read_json(world / "sets/lvis/annotations/train.json")
    seen = defaultdict(set)
    for entry in content["annotations"]:
        seen[entry["category_id"]].add(entry["image_id"])
    for entry in content["categories"]:
        assert entry["frequency"] == lvis_files.frequency(entry["image_count"], 0.2)
        if entry["frequency"] != "r":
            assert len(seen[entry["id"]]) == entry["image_count"]


def test_lvis_is_federated() -> None:
    records = [_record(*(KINDS[(i + j) % 96] for j in range(5)), KINDS[i % 96]) for i in range(300)]
    content = lvis_files.instances(0, "val", 1, 192, records, factor=0.1)
    annotated = defaultdict(Counter)
    for entry in content["annotations"]:
        annotated[entry["image_id"]][entry["category_id"]] += 1
    unknown = partial = 0
    for image, record in zip(content["images"], records, strict=True):
        present = Counter(lvis_files.CLASS_IDS[item.kind] for item in record.objects)
        negative, inexhaustive = set(image["neg_category_ids"]), set(image["not_exhaustive_category_ids"])
        assert len(negative) == 14
        assert not negative & set(present)
        assert inexhaustive <= set(annotated[image["id"]])
        for category, count in present.items():
            unknown += not annotated[image["id"]][category]
            partial += category in inexhaustive
            if category not in inexhaustive:
                assert annotated[image["id"]][category] in (0, count)
    assert 0.03 < unknown / 1500 < 0.07
    assert partial > 40


def test_lvis_images_are_addressed_by_coco_url(world: Path) -> None:
    image = read_json(world / "sets/lvis/annotations/val.json")["images"][0]
    assert image["coco_url"] == "http://images.cocodataset.org/val/000000500001.jpg"
    assert set(image) == {
        "id", "width", "height", "license", "date_captured", "flickr_url", "coco_url",
        "neg_category_ids", "not_exhaustive_category_ids",
    }  # fmt: skip


def test_class_lists_agree_with_the_annotations(world: Path) -> None:
    for name in ("coco", "lvis"):
        classes = load_classes(name, world / "sets")
        categories = read_json(detection_set(name, "val", world / "sets").annotations)["categories"]
        assert classes.ids == tuple(entry["id"] for entry in categories)
        assert classes.names == tuple(entry["name"].replace("_", " ") for entry in categories)
