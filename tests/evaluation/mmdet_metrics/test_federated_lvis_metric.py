"""FederatedLVISMetric through MMEngine's evaluator: hand-computed AP, federated rules, masks, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regionclip.errors import InputError

from .conftest import detected

META = {"classes": ("bat_(animal)", "moon", "ring")}
HERE = [0.0, 0.0, 10.0, 10.0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Rare 3 is in image 1, common 5 in image 2, frequent 9 nowhere; of image 3 nothing is known. Names as in LVIS."""
    square = [[0, 0, 10, 0, 10, 10, 0, 10]]
    common = {"neg_category_ids": [], "not_exhaustive_category_ids": [], "height": 20, "width": 20}
    truth = {
        "images": [{"id": number, **common} for number in (1, 2, 3)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": HERE, "area": 100, "segmentation": square},
            {"id": 2, "image_id": 2, "category_id": 5, "bbox": HERE, "area": 100, "segmentation": square},
        ],
        "categories": [
            {"id": 3, "name": "bat_(animal)", "frequency": "r"},
            {"id": 5, "name": "moon", "frequency": "c"},
            {"id": 9, "name": "ring", "frequency": "f"},
        ],
    }
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(truth))
    return path


def test_hand_computed_ap_in_batches(file: Path, run_metric: Callable) -> None:
    """The bat is right; the false bat in image 3 outranks it and does not count. The moon's IoU is 0.62, a hit at 3 of
    10 thresholds. No ring is there: -1."""
    batches = [
        [detected(1, (HERE, 0, 0.5)), detected(2, ([0, 0, 6.2, 10], 1, 0.7))],
        [detected(3, (HERE, 0, 0.9), (HERE, 2, 0.9))],
    ]
    result = run_metric({"type": "FederatedLVISMetric", "ann_file": str(file)}, META, batches)
    wanted = {"AP": 0.65, "AP50": 1.0, "AP75": 0.5, "APr": 1.0, "APc": 0.3, "APf": -1.0, "APs": 0.65, "APm": -1.0}
    assert {key: result[f"lvis/bbox_{key}"] for key in wanted} == pytest.approx(wanted)
    assert not [key for key in result if "segm" in key]


def test_names_may_be_those_a_person_writes(file: Path, run_metric: Callable) -> None:
    """Labels follow the given order, whatever that of the file."""
    meta = {"classes": ("moon", "bat animal")}
    batches = [[detected(1, (HERE, 1, 0.5)), detected(2, (HERE, 0, 0.5)), detected(3)]]
    result = run_metric({"type": "FederatedLVISMetric", "ann_file": str(file)}, meta, batches)
    assert result["lvis/bbox_AP"] == pytest.approx(1.0)


def test_masks_beside_boxes(file: Path, run_metric: Callable) -> None:
    """Boxes are right; the moon's mask has 6 of 10 rows."""
    masks = torch.zeros(2, 1, 20, 20, dtype=torch.bool)
    masks[0, 0, :10, :10] = masks[1, 0, :6, :10] = True
    batches = [[detected(1, (HERE, 0, 0.5), masks=masks[0]), detected(2, (HERE, 1, 0.5), masks=masks[1])]]
    config = {"type": "FederatedLVISMetric", "ann_file": str(file), "metric": ["bbox", "segm"], "prefix": "lvis_v1"}
    result = run_metric(config, META, batches)
    keys = ("lvis_v1/bbox_AP", "lvis_v1/segm_AP", "lvis_v1/segm_APr", "lvis_v1/segm_APc")
    assert [result[key] for key in keys] == pytest.approx([1.0, 0.65, 1.0, 0.3])


def test_limit_and_images_are_settings(file: Path, run_metric: Callable) -> None:
    truth = json.loads(file.read_text())
    truth["images"][2]["neg_category_ids"] = [3]
    file.write_text(json.dumps(truth))
    batches = [[detected(1, (HERE, 2, 0.9), (HERE, 0, 0.5)), detected(2), detected(3, (HERE, 0, 0.9))]]
    for settings, rare in (({}, 0.5), ({"images": "labelled"}, 1.0), ({"max_detections": 1}, 0.0)):
        config: dict[str, Any] = {"type": "FederatedLVISMetric", "ann_file": str(file), **settings}
        assert run_metric(config, META, batches)["lvis/bbox_APr"] == pytest.approx(rare), settings


def test_wrong_settings_are_refused(file: Path, run_metric: Callable) -> None:
    config = {"type": "FederatedLVISMetric", "ann_file": str(file)}
    with pytest.raises(InputError, match="no metric 'proposal'"):
        run_metric({**config, "metric": "proposal"}, META, [])
    with pytest.raises(InputError, match=r"lvis\.json.*no category 'arrow'"):
        run_metric(config, {"classes": ("arrow",)}, [[detected(1)]])
    with pytest.raises(InputError, match="detection 0, key 'segmentation'"):
        run_metric({**config, "metric": "segm"}, META, [[detected(1, (HERE, 0, 0.5)), detected(2), detected(3)]])
