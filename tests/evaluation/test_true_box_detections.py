"""Detections on true boxes: probabilities with and without background, thresholds and NMS, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from regionclip.evaluation.true_box_detections import true_box_detections, with_background


def test_the_zero_row_takes_its_share() -> None:
    """Logits ln 2 and ln 1: 2 : 1 : 1 with a background of logit 0, 2 : 1 without."""
    logits = torch.tensor([[math.log(2), 0.0]])
    assert with_background(logits, zero_row=True)[0].tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert with_background(logits, zero_row=False)[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])


def test_one_box_gives_a_detection_for_each_class_above_the_threshold() -> None:
    """COCO wants more than 0.001, LVIS more than 0.0001; the background is no class."""
    box, probabilities = torch.tensor([[1.0, 2, 11, 22]]), torch.tensor([[0.5, 0.002, 0.0005, 0.4975]])
    coco, lvis = (true_box_detections(7, box, probabilities, [3, 5, 9], name) for name in ("coco", "lvis"))
    assert [(item["category_id"], item["score"]) for item in coco] == [(3, 0.5), (5, 0.002)]
    assert [item["category_id"] for item in lvis] == [3, 5, 9]
    assert coco[0] == {"image_id": 7, "category_id": 3, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 0.5}


def test_nms_is_by_class() -> None:
    """Two boxes of IoU 0.8: of each class the weaker one goes; boxes of IoU 0.5 both stay."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5]])
    probabilities = torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.7, 0.1], [0.3, 0.0, 0.7]])
    found = true_box_detections(1, boxes, probabilities, [1, 2], "coco")
    assert [(item["category_id"], item["score"], item["bbox"][3]) for item in found] == [
        (2, pytest.approx(0.7), 8.0),
        (1, pytest.approx(0.6), 10.0),
        (1, pytest.approx(0.3), 5.0),
    ]


def test_the_most_of_an_image_and_images_without_boxes() -> None:
    boxes = torch.arange(60.0).mul(20)[:, None] + torch.tensor([0.0, 0, 10, 10])
    found = true_box_detections(1, boxes, torch.full((60, 3), 1 / 3), [1, 2], "coco")
    assert len(found) == 100
    assert true_box_detections(1, torch.zeros(0, 4), torch.zeros(0, 3), [1, 2], "coco") == []
