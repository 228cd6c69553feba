"""RegionClassificationMetric through MMEngine's evaluator: accuracies and AP of hand-made scores, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from regionclip.errors import InputError

BOXES = [[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]]
META = {"classes": ("star", "moon", "ring"), "base_classes": ("star", "ring"), "novel_classes": ("moon",)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A star and a moon in image 1, a star in image 2; no ring. Both COCO's and LVIS's keys."""
    objects = [(1, 3, BOXES[0]), (1, 5, BOXES[1]), (2, 3, BOXES[0])]
    truth = {
        "images": [{"id": i, "neg_category_ids": [3, 5, 9], "not_exhaustive_category_ids": []} for i in (1, 2)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": kind, "bbox": [*box[:2], 10, 10]}
            for number, (image, kind, box) in enumerate(objects, start=1)
        ],
        "categories": [
            {"id": 3, "name": "star", "frequency": "f"},
            {"id": 5, "name": "moon", "frequency": "r"},
            {"id": 9, "name": "ring", "frequency": "c"},
        ],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    return path


def classified(image_id: int, labels: list[int], scores: list[list[float]]) -> BaseDataElement:
    """A data sample as of a detector with ``test_cfg.rcnn=None``: scores of star, moon, ring and background."""
    data = BaseDataElement(metainfo={"img_id": image_id})
    boxes = torch.tensor(BOXES[: len(scores)]).reshape(-1, 4)
    data.pred_instances = InstanceData(bboxes=boxes, scores=torch.tensor(scores).reshape(-1, 4))
    data.gt_instances = InstanceData(labels=torch.tensor(labels, dtype=torch.int64))
    return data


def samples() -> list[BaseDataElement]:
    """Right: the star of image 1. Wrong: its moon, called a star at 0.6; the star of image 2, where the background is
    best and then the ring."""
    first = classified(1, [0, 1], [[0.7, 0.1, 0.1, 0.1], [0.6, 0.3, 0.05, 0.05]])
    return [first, classified(2, [0], [[0.2, 0.05, 0.25, 0.5]])]


@pytest.mark.parametrize("dataset", ["coco", "lvis"])
def test_hand_computed_accuracy_and_ap(dataset: str, file: Path, run_metric: Callable) -> None:
    """Top-1: 1 of 3 regions; the star has 1 of 2, the moon 0 of 1, so 1/4 over classes. Each is among three best.

    AP of the star: hit at 0.7, false alarm at 0.6, hit at 0.2: (51 + 50 * 2/3) / 101. Of the moon: its own box is the
    best moon, at 0.3, before 0.1 and 0.05: 1. At every IoU threshold, as boxes are exact."""
    config = {"type": "RegionClassificationMetric", "ann_file": str(file), "dataset": dataset, "templates": "'photo'"}
    result = run_metric(config, META, [samples()[:1], samples()[1:]])
    star = (51 + 50 * 2 / 3) / 101
    expected = {
        "top1_all": 1 / 3, "top1_base": 1 / 2, "top1_novel": 0.0, "top5_all": 1.0,
        "class_mean_top1_all": 1 / 4, "class_mean_top5_all": 1.0, "ap": (star + 1) / 2,
    }  # fmt: skip
    expected |= {"ap50_base": star, "ap50_novel": 1.0} if dataset == "coco" else {"apf": star, "apr": 1.0, "apc": -1.0}
    assert {key: result[f"region/{key}"] for key in expected} == pytest.approx(expected)


def test_images_without_objects_take_part(file: Path, run_metric: Callable) -> None:
    truth = json.loads(file.read_text())
    truth["images"].append({"id": 3, "neg_category_ids": [], "not_exhaustive_category_ids": []})
    file.write_text(json.dumps(truth))
    config = {"type": "RegionClassificationMetric", "ann_file": str(file), "dataset": "coco", "templates": "'photo'"}
    assert run_metric(config, META, [[classified(3, [], [])], samples()])["region/top1_all"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("settings", "meta", "message"),
    [
        ({"dataset": "voc"}, META, "no data set 'voc'"),
        ({}, META | {"classes": ("moon", "star", "ring")}, "not in the order of their category ids"),
        ({}, META | {"classes": ("star", "moon")}, r"scores \(2, 4\) are not those of 2 true boxes and 2 classes"),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: dict[str, Any], meta: dict[str, Any], message: str, file: Path, run_metric: Callable
) -> None:
    config = {"type": "RegionClassificationMetric", "ann_file": str(file), "dataset": "coco", "templates": "'photo'"}
    with pytest.raises(InputError, match=message):
        run_metric(config | settings, meta, [samples()])


def test_detections_after_nms_are_refused(file: Path, run_metric: Callable) -> None:
    config = {"type": "RegionClassificationMetric", "ann_file": str(file), "dataset": "coco", "templates": "'photo'"}
    detected = classified(1, [0, 1], [[0.7, 0.1, 0.1, 0.1]])
    with pytest.raises(InputError, match=r"image 1: scores \(1, 4\) are not those of 2 true boxes.*test_cfg.rcnn=None"):
        run_metric(config, META, [[detected, samples()[1]]])
