"""Boxes and proposals reach MMDetection with the right labels, in the right pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from regionclip.artifacts import SETS
from regionclip.data.annotations.splits import write_detection_set
from regionclip.data.datasets import detection
from regionclip.data.datasets.detection import (
    PicturesDataset,
    boxes_config,
    boxes_dataset,
    build_dataset,
    train_pipeline,
)
from regionclip.data.datasets.stream import StreamDataset
from regionclip.data.layout import DetectionSet, detection_set, load_classes
from regionclip.errors import InputError
from regionclip.files import read_json, write_json
from regionclip.params.stages import Detection
from regionclip.regions.store_writer import RegionStoreWriter

SIZES = Detection(train_short_sides=[48], test_short_side=48, max_size=200, test_batch=8, test_proposals=2)
WIDTH, HEIGHT = 32, 24
# Ids are neither dense nor in the order of the file; picture 5 has no box, and "kite" is no class.
COCO = [{"id": 9, "name": "star"}, {"id": 2, "name": "stop sign"}, {"id": 4, "name": "kite"}]
LVIS = [
    {"id": number, "name": name, "frequency": "f"}
    for number, name in ((9, "red_star"), (2, "stop_sign_(road)"), (4, "kite"))
]
BOXES = {3: [(9, [2, 4, 10, 8]), (4, [0, 0, 5, 5]), (2, [20, 10, 8, 12])], 5: [], 8: [(4, [1, 1, 6, 6])]}


@pytest.fixture
def scenes(tmp_path: Path) -> DetectionSet:
    """Three pictures whose pixels tell their number and the column."""
    folder = tmp_path / "val"
    folder.mkdir()
    for number in BOXES:
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[..., 0], pixels[..., 2] = np.arange(WIDTH) * 4, number
        Image.fromarray(pixels).save(folder / f"{number:012d}.png")
    return DetectionSet(folder, tmp_path / "boxes.json")


def _write(scenes: DetectionSet, categories: list[dict[str, Any]], lvis: bool = False) -> DetectionSet:
    """Write the annotations; LVIS names pictures by address, and its folder is one above."""
    images = [{"id": number, "width": WIDTH, "height": HEIGHT} for number in BOXES]
    for image in images:
        name = f"{image['id']:012d}.png"
        image |= {"coco_url": f"http://images.cocodataset.org/val/{name}"} if lvis else {"file_name": name}
    annotations = [
        {"id": 10 * number + i, "image_id": number, "category_id": category, "bbox": box, "area": box[2] * box[3]}
        | ({} if lvis else {"iscrowd": 0})
        for number, boxes in BOXES.items()
        for i, (category, box) in enumerate(boxes)
    ]
    scenes.annotations.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return DetectionSet(scenes.images.parent, scenes.annotations) if lvis else scenes


def _xyxy(sample: Any) -> Tensor:
    return torch.as_tensor(getattr(sample.bboxes, "tensor", sample.bboxes))


@pytest.mark.parametrize(
    ("categories", "names", "lvis"),
    [(COCO, ("stop sign", "star"), False), (LVIS, ("stop sign road", "red star"), True)],
    ids=["coco", "lvis"],
)
def test_labels_follow_the_class_list_whatever_the_file_calls_them(
    scenes: DetectionSet, categories: list[dict[str, Any]], names: tuple[str, ...], lvis: bool
) -> None:
    """Category 2 comes before 9, as in classes.json; the box of "kite" is left out; pixels are doubled."""
    pictures = boxes_dataset(
        _write(scenes, categories, lvis), names, detection.test_pipeline(SIZES, None), training=False
    )
    assert len(pictures) == 3 and pictures.metainfo["classes"] == names
    first = pictures[0]
    truth = first["data_samples"].gt_instances
    by_label = dict(zip(truth.labels.tolist(), _xyxy(truth).tolist(), strict=True))
    assert by_label == {0: [40, 20, 56, 44], 1: [4, 8, 24, 24]}
    assert first["data_samples"].img_id == 3 and first["inputs"].shape == (3, 48, 64)
    assert first["inputs"][0].unique().tolist() == [3], "channels are BGR, and blue is the number"


def test_training_drops_pictures_without_a_box_of_its_classes(scenes: DetectionSet) -> None:
    pictures = boxes_dataset(_write(scenes, COCO), ("star",), train_pipeline(SIZES, None), training=True)
    assert [pictures.get_data_info(i)["img_id"] for i in range(len(pictures))] == [3]
    assert pictures[0]["data_samples"].gt_instances.labels.tolist() == [0]


def test_test_keeps_every_picture_in_the_order_of_ids(scenes: DetectionSet) -> None:
    pictures = boxes_dataset(_write(scenes, COCO), ("star",), detection.test_pipeline(SIZES, None), training=False)
    assert [pictures[i]["data_samples"].img_id for i in range(3)] == [3, 5, 8]
    assert [len(pictures[i]["data_samples"].gt_instances) for i in range(3)] == [1, 0, 0]


def test_boxes_are_trained_on_whatever_their_area_says_and_not_where_they_are_to_be_ignored(
    scenes: DetectionSet,
) -> None:
    """MMDetection's own reader drops both without a word."""
    where = _write(scenes, COCO)
    content = read_json(where.annotations)
    content["annotations"][0]["area"] = 0
    content["annotations"][2]["ignore"] = 1
    write_json(where.annotations, content)
    pictures = boxes_dataset(where, ("stop sign", "star"), train_pipeline(SIZES, None), training=True)
    instances = pictures.get_data_info(0)["instances"]
    assert [(instance["bbox_label"], instance["ignore_flag"]) for instance in instances] == [(1, 0), (0, 1)]


def test_own_class_names_are_not_cleaned(scenes: DetectionSet) -> None:
    where = _write(scenes, [{"id": 9, "name": "red_star"}, {"id": 2, "name": "red star"}, {"id": 4, "name": "a (b)"}])
    pictures = boxes_dataset(where, ("red star", "a (b)"), train_pipeline(SIZES, None), training=True)
    assert pictures.cat_ids == [2, 4]


def test_a_training_file_that_lacks_a_class_or_all_boxes_is_refused(scenes: DetectionSet) -> None:
    with pytest.raises(InputError, match=r"boxes\.json, key 'categories': 1 classes are not .* such as 'ring'"):
        boxes_dataset(_write(scenes, COCO), ("star", "ring"), train_pipeline(SIZES, None), training=True)
    content = read_json(scenes.annotations)
    write_json(scenes.annotations, content | {"annotations": [a | {"iscrowd": 1} for a in content["annotations"]]})
    with pytest.raises(InputError, match="no picture has a box to train on"):
        boxes_dataset(scenes, ("star",), train_pipeline(SIZES, None), training=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three proposals for each picture, best first; the first is the box of the star."""
    boxes = np.array([[2, 4, 12, 12], [20, 10, 28, 22], [0, 0, 32, 24]], np.float32)
    with RegionStoreWriter(tmp_path / "store", {}) as writer:
        for number in BOXES:
            writer.add(number, boxes, np.array([3.0, 1.0, -2.0], np.float32))
    return tmp_path / "store"


def test_a_test_takes_the_best_proposals_in_its_pixels(scenes: DetectionSet, store: Path) -> None:
    pictures = boxes_dataset(_write(scenes, COCO), ("star",), detection.test_pipeline(SIZES, store), training=False)
    proposals = pictures[1]["data_samples"].proposals
    assert _xyxy(proposals).tolist() == [[4, 8, 24, 24], [40, 20, 56, 44]]
    assert proposals.scores.tolist() == [3.0, 1.0]


def test_true_boxes_can_be_the_proposals(scenes: DetectionSet) -> None:
    """Proposal i is the box that label i belongs to."""
    names = ("stop sign", "star")
    pictures = boxes_dataset(_write(scenes, COCO), names, detection.test_pipeline(SIZES, "truth"), training=False)
    sample = pictures[0]["data_samples"]
    assert torch.equal(_xyxy(sample.proposals), _xyxy(sample.gt_instances)) and len(sample.proposals) == 2
    assert len(pictures[1]["data_samples"].proposals) == 0


def test_training_flips_picture_boxes_and_proposals_together(scenes: DetectionSet, store: Path) -> None:
    """All proposals are there. Flipped or not, the first lies on the star, and the picture's columns agree."""
    pictures = boxes_dataset(_write(scenes, COCO), ("star",), train_pipeline(SIZES, store), training=True)
    flips = set()
    for _ in range(20):
        record = pictures[0]
        sample, red = record["data_samples"], record["inputs"][2, 0]
        flips.add(sample.flip)
        assert len(sample.proposals) == 3
        assert _xyxy(sample.proposals)[0].tolist() == _xyxy(sample.gt_instances)[0].tolist()
        assert _xyxy(sample.proposals)[0].tolist() == ([40, 8, 60, 24] if sample.flip else [4, 8, 24, 24])
        assert (red[0] > red[-1]) == sample.flip
    assert flips == {True, False}


def test_training_draws_among_the_scales(scenes: DetectionSet) -> None:
    sizes = SIZES.model_copy(update={"train_short_sides": [24, 48]})
    pictures = boxes_dataset(_write(scenes, COCO), ("star",), train_pipeline(sizes, None), training=True)
    assert {tuple(pictures[0]["inputs"].shape) for _ in range(30)} == {(3, 24, 32), (3, 48, 64)}


def test_long_side_is_limited(scenes: DetectionSet) -> None:
    """48 pixels high it would be 64 wide."""
    sizes = SIZES.model_copy(update={"max_size": 56})
    pictures = boxes_dataset(_write(scenes, COCO), ("star",), detection.test_pipeline(sizes, None), training=False)
    assert pictures[0]["inputs"].shape == (3, 42, 56)


def test_picture_without_proposals_is_named(scenes: DetectionSet, tmp_path: Path) -> None:
    with RegionStoreWriter(tmp_path / "other", {}) as writer:
        writer.add(77, np.array([[0, 0, 5, 5]], np.float32), np.array([1.0], np.float32))
    pictures = boxes_dataset(
        _write(scenes, COCO), ("star",), detection.test_pipeline(SIZES, tmp_path / "other"), training=False
    )
    with pytest.raises(InputError, match="no such image") as caught:
        pictures[0]
    assert caught.value.record == "3"


def test_pictures_without_annotations_go_through_the_same_test(scenes: DetectionSet) -> None:
    """The scenes of the pseudo labels are seen as the pictures of a detection set are."""
    with_boxes = boxes_dataset(_write(scenes, COCO), ("star",), detection.test_pipeline(SIZES, None), training=False)
    files = sorted(scenes.images.iterdir())
    plain = PicturesDataset([(f"key{i}", file) for i, file in enumerate(files)], SIZES)
    assert len(plain) == 3
    for i in range(3):
        assert torch.equal(plain[i]["inputs"], with_boxes[i]["inputs"])
        assert plain[i]["data_samples"].img_id == f"key{i}"
        assert plain[i]["data_samples"].scale_factor == with_boxes[i]["data_samples"].scale_factor == (2.0, 2.0)


def _training(name: str, real: SimpleNamespace, **options: Any) -> Any:
    """The training set of a real set, as the stage finetune builds it."""
    write_detection_set(SETS, name, getattr(real, name))
    pipeline = train_pipeline(SIZES, None, masks=options.pop("masks", False))
    names = load_classes(name).base_names
    return build_dataset(boxes_config(detection_set(name, "train"), names, pipeline, training=True, **options))


def test_real_coco_trains_on_base_labels_without_pictures_of_crowds(real: SimpleNamespace) -> None:
    """Person is label 0, toothbrush 47 of 48, cat 11 of 65; picture 3, only a crowd, would be all background."""
    pictures = _training("coco", real)
    assert [pictures.get_data_info(i)["img_id"] for i in range(len(pictures))] == [1, 5]
    assert [pictures[i]["data_samples"].gt_instances.labels.tolist() for i in range(2)] == [[0], [47]]
    names = load_classes("coco").names
    tested = boxes_dataset(detection_set("coco", "val"), names, detection.test_pipeline(SIZES, None), training=False)
    assert [tested[i]["data_samples"].gt_instances.labels.tolist() for i in range(2)] == [[11, 0], []]
    assert tested[1]["data_samples"].ignored_instances.labels.tolist() == [5]


def test_real_lvis_pictures_come_from_both_folders(real: SimpleNamespace) -> None:
    """Labels: chair is the third of the base classes; in the test, id 7 is the fifth of all."""
    training = _training("lvis", real)
    assert [training[i]["data_samples"].gt_instances.labels.tolist() for i in range(2)] == [[2], [0, 0]]
    tested = boxes_dataset(
        detection_set("lvis", "val"), load_classes("lvis").names, detection.test_pipeline(SIZES, None), training=False
    )
    files = [Path(tested[i]["data_samples"].img_path).relative_to(Path.cwd()) for i in range(2)]
    assert [str(file) for file in files] == ["sets/train2017/000000000021.jpg", "sets/val2017/000000000022.jpg"]
    assert sorted(tested[0]["data_samples"].gt_instances.labels.tolist()) == [0, 4]


def test_masks_follow_boxes_from_polygons_and_from_run_lengths(real: SimpleNamespace) -> None:
    """Pixels are doubled. Picture 1: a polygon of 10 x 8; beside it a crowd, whose run lengths are the left column."""
    content = read_json(real.coco.files.instances_train)
    crowd = next(a for a in content["annotations"] if a["iscrowd"]) | {"id": 7, "image_id": 1}
    content["annotations"] += [crowd, crowd | {"id": 8, "iscrowd": 0}]
    write_json(real.coco.files.instances_train, content)
    sample = _training("coco", real, masks=True)[0]["data_samples"]
    masks, flipped = sample.gt_instances.masks, sample.flip
    assert masks.masks.shape == (2, 48, 64)
    columns = {int(mask.any(axis=0).sum()) for mask in masks.masks}
    assert columns == {20, 2} and {int(mask.any(axis=1).sum()) for mask in masks.masks} == {16, 48}
    left = masks.masks[:, :, -1 if flipped else 0].any(axis=1)
    assert left.tolist().count(True) == 1, "the run lengths are of the border column"
    assert sample.ignored_instances.masks.masks.shape == (1, 48, 64)


def test_without_masks_none_are_loaded(real: SimpleNamespace) -> None:
    assert "masks" not in _training("lvis", real)[0]["data_samples"].gt_instances


def test_pictures_of_rare_classes_are_repeated(real: SimpleNamespace) -> None:
    """Four pictures of a chair, one of a can, threshold 0.8: the can sqrt(0.8 / 0.2) = 2 times, the chairs once."""
    content = read_json(real.lvis.files.instances_train)
    image, chair = content["images"][0], content["annotations"][0]
    for number in (31, 32, 33):
        name = f"train2017/{number:012d}.jpg"
        shutil.copy("sets/train2017/000000000001.jpg", f"sets/{name}")
        content["images"].append(image | {"id": number, "coco_url": f"http://images.cocodataset.org/{name}"})
        content["annotations"].append(chair | {"id": number, "image_id": number})
    write_json(real.lvis.files.instances_train, content)
    pictures = _training("lvis", real, repeat_threshold=0.8)
    assert [pictures[i]["data_samples"].img_id for i in range(len(pictures))] == [1, 3, 3, 31, 32, 33]
    assert pictures.metainfo["classes"] == ("aerosol can", "air conditioner", "chair")
    assert len(StreamDataset(pictures, 0)) == 6 and "inputs" in StreamDataset(pictures, 0)[0]
