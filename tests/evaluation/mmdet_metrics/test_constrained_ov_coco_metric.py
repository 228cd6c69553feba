"""ConstrainedOVCocoMetric by hand; and MMDetection's OVCocoMetric gives the generalised protocol's numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.structures import BaseDataElement

from regionclip.errors import InputError
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.detections import detections_from_samples

from .conftest import detected

SPLIT = {"base_classes": ("star", "ring"), "novel_classes": ("moon",)}
HERE, THERE = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A star and a ring in image 1, a moon in image 2, nothing in image 3."""
    objects = [(1, 3, [0, 0, 10, 10]), (1, 9, [50, 50, 10, 10]), (2, 5, [0, 0, 10, 10])]
    truth = {
        "images": [{"id": number, "height": 100, "width": 100} for number in (1, 2, 3)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": kind, "bbox": box, "area": 100, "iscrowd": 0}
            for number, (image, kind, box) in enumerate(objects, start=1)
        ],
        "categories": [{"id": identity, "name": name} for identity, name in ((3, "star"), (5, "moon"), (9, "ring"))],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(truth))
    return path


def test_novel_only(file: Path, run_metric: Callable) -> None:
    """The false moons in images 1 and 3 outrank the moon; both images have no moon and are dropped."""
    batches = [[detected(1, (HERE, 0, 0.9)), detected(2, (HERE, 0, 0.5)), detected(3, (HERE, 0, 0.8))]]
    config = {"type": "ConstrainedOVCocoMetric", "ann_file": str(file), "group": "novel"}
    result = run_metric(config, {"classes": ("moon",), **SPLIT}, batches)
    keys = ("constrained_novel/bbox_mAP", "constrained_novel/bbox_mAP_50", "constrained_novel/bbox_mAP_l")
    assert [result[key] for key in keys] == pytest.approx([1.0, 1.0, -1.0])


def test_base_only(file: Path, run_metric: Callable) -> None:
    """The star is found, the ring is not."""
    batches = [[detected(1, (HERE, 0, 0.9)), detected(2, (HERE, 0, 0.99)), detected(3)]]
    config = {"type": "ConstrainedOVCocoMetric", "ann_file": str(file), "group": "base", "prefix": "coco"}
    result = run_metric(config, {"classes": ("star", "ring"), **SPLIT}, batches)
    assert result["coco/bbox_mAP_50"] == pytest.approx(0.5)


def test_a_model_of_all_classes_is_refused(file: Path, run_metric: Callable) -> None:
    """Its numbers would be generalised ones under the constrained name."""
    config = {"type": "ConstrainedOVCocoMetric", "ann_file": str(file), "group": "novel"}
    with pytest.raises(InputError, match="detects 3 classes, the novel ones are 1"):
        run_metric(config, {"classes": ("star", "moon", "ring"), **SPLIT}, [[detected(1), detected(2), detected(3)]])


def test_a_data_set_that_does_not_name_the_group_is_refused(file: Path, run_metric: Callable) -> None:
    config = {"type": "ConstrainedOVCocoMetric", "ann_file": str(file), "group": "novel"}
    with pytest.raises(InputError, match="key 'metainfo.novel_classes': the data set does not say"):
        run_metric(config, {"classes": ("moon",)}, [[detected(1), detected(2), detected(3)]])


def generalised() -> list[BaseDataElement]:
    """Labels of star, moon, ring. The star and the moon have an alarm that outranks them; the ring's IoU is 0.8."""
    return [
        detected(1, (HERE, 0, 0.5), (THERE, 0, 0.75), ([50, 50, 60, 58], 2, 0.5)),
        detected(2, (HERE, 1, 0.5)),
        detected(3, (HERE, 1, 0.75)),
    ]


def test_stock_metric_gives_the_generalised_numbers(file: Path, run_metric: Callable) -> None:
    """Star 1/2, moon 1/2, ring 1: base 3/4, novel 1/2, all 2/3; MMDetection rounds the last to three digits."""
    samples = generalised()
    for sample in samples:
        sample.set_metainfo({"ori_shape": (100, 100)})
    config = {"type": "OVCocoMetric", "ann_file": str(file), "metric": "bbox", "proposal_nums": (1, 10, 100)}
    stock = run_metric(config, {"classes": ("star", "moon", "ring"), **SPLIT}, [samples])
    split = SimpleNamespace(base_names=SPLIT["base_classes"], novel_names=SPLIT["novel_classes"])
    ours = evaluate_coco(file, detections_from_samples(generalised(), [3, 5, 9]), split)
    assert (ours["ap50_base"], ours["ap50_novel"], ours["ap50_all"]) == (*map(pytest.approx, (3 / 4, 1 / 2, 2 / 3)),)
    assert stock["coco/base_ap50"] == pytest.approx(ours["ap50_base"], abs=1e-6)
    assert stock["coco/novel_ap50"] == pytest.approx(ours["ap50_novel"], abs=1e-6)
    assert stock["coco/bbox_mAP_50"] == pytest.approx(ours["ap50_all"], abs=6e-4)
    assert stock["coco/bbox_mAP"] == pytest.approx(ours["ap"], abs=6e-4)
