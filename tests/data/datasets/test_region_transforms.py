"""Stored proposals go through a real MMDetection pipeline together with the annotated boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import TRANSFORMS
from mmdet.utils import register_all_modules
from PIL import Image

import regionclip.data.datasets.transforms  # noqa: F401  (registers)
from regionclip.errors import InputError
from regionclip.regions.store_writer import RegionStoreWriter

BOXES = np.array([[4, 6, 20, 18], [30, 10, 40, 30]], np.float32)


@pytest.fixture(autouse=True)
def scope() -> None:
    """Look types up among MMDetection's first, as a Runner for it does."""
    register_all_modules()


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO folder with one image of 48 x 32 pixels, two boxes and a crowd, and a store with the same boxes."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)).save(tmp_path / "a.jpg")
    boxes = [[4, 6, 16, 12], [0, 0, 10, 10], [30, 10, 10, 20]]
    annotations = [
        {"id": i, "image_id": 9, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": int(i == 1)}
        for i, box in enumerate(boxes)
    ]
    images = [{"id": 9, "file_name": "a.jpg", "width": 48, "height": 32}]
    value = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "star"}]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    with RegionStoreWriter(tmp_path / "store", {}) as writer:
        writer.add(9, BOXES, np.array([-1.5, 3.0]))
    return tmp_path


def record(folder: Path, proposals: dict, flip: float, scale: tuple[int, int] = (96, 64)):
    """The one record of the data set through load, proposals, resize and flip, and packing."""
    geometric = [
        {"type": "Resize", "scale": scale, "keep_ratio": True, "backend": "pillow"},
        {"type": "RandomFlip", "prob": flip},
    ]
    pipeline = [
        {"type": "LoadPicture"},
        {"type": "LoadAnnotations", "with_bbox": True},
        proposals,
        {"type": "ProposalBroadcaster", "transforms": geometric},
        {"type": "PackDetInputs"},
    ]
    dataset = CocoDataset(
        ann_file=str(folder / "a.json"),
        data_prefix={"img": str(folder)},
        metainfo={"classes": ("star",)},
        pipeline=pipeline,
    )
    return dataset[0]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_proposals_and_boxes_move_together(coco, flip):
    """Doubled and flipped, the stored boxes are still the annotated ones, the best first, with raw logits."""
    packed = record(coco, {"type": "LoadStoredProposals", "store": str(coco / "store")}, flip)
    sample = packed["data_samples"]
    assert packed["inputs"].shape == (3, 64, 96)
    boxes = 2 * BOXES
    if flip:
        boxes[:, [0, 2]] = 96 - boxes[:, [2, 0]]
    np.testing.assert_allclose(sample.gt_instances.bboxes.numpy(), boxes)
    np.testing.assert_allclose(sample.proposals.bboxes.numpy(), boxes[::-1])
    assert sample.proposals.scores.tolist() == [3.0, -1.5]


def test_only_the_best_proposals_are_kept(coco):
    """``num_max_proposals`` keeps the highest objectness, whatever the order in the store."""
    proposals = {"type": "LoadStoredProposals", "store": str(coco / "store"), "num_max_proposals": 1}
    kept = record(coco, proposals, 0.0, (48, 32))["data_samples"].proposals
    assert kept.bboxes.numpy().tolist() == [BOXES[1].tolist()] and kept.scores.tolist() == [3.0]


def test_ground_truth_as_proposals(coco):
    """Proposal i is the box of instance i; the crowd is left out; the scores are 0."""
    sample = record(coco, {"type": "LoadGroundTruthAsProposals"}, 1.0)["data_samples"]
    np.testing.assert_allclose(sample.proposals.bboxes.numpy(), sample.gt_instances.bboxes.numpy())
    assert sample.proposals.scores.tolist() == [0.0, 0.0] and sample.gt_instances.labels.tolist() == [0, 0]


def test_image_that_the_store_lacks(coco):
    """An image without a row in the store is an error that names it."""
    transform = TRANSFORMS.build({"type": "LoadStoredProposals", "store": str(coco / "store")})
    with pytest.raises(InputError, match="no such image") as caught:
        transform({"img_id": 10})
    assert caught.value.record == "10"


def test_image_without_proposals(coco):
    """An image without regions gives empty proposals of the right shape."""
    with RegionStoreWriter(coco / "store", {}) as writer:
        writer.add(9, np.zeros((0, 4)), np.zeros(0))
    kept = record(coco, {"type": "LoadStoredProposals", "store": str(coco / "store")}, 1.0)["data_samples"].proposals
    assert kept.bboxes.shape == (0, 4) and kept.scores.shape == (0,)
