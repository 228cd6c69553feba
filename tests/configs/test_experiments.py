"""Every experiment config builds, takes one training step and gives one prediction, through MMEngine's Runner.

Pictures of 128x96, a few regions, random weights. The configs of RN50 have their real layers here; those of RN50x4
have their real widths, RoI sizes and embeddings, but one block a stage (`shallow`). With all layers they are slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from regionclip.models.assembly import CONFIGS
from regionclip.regions.store import RegionStore

SIZES = ("rn50", "rn50x4")
PRETRAIN = [f"pretrain_{data}_{size}" for data in ("coco", "cc3m") for size in SIZES]
DETECTORS = [
    f"{task}_{size}"
    for task in ("transfer_coco48", "transfer_lvis866", "supervised_coco80", "supervised_lvis1203")
    for size in SIZES
]
ZERO_SHOT = [
    f"zero_shot_{data}_{boxes}_{size}" for data in ("coco", "lvis") for boxes in ("gt", "rpn") for size in SIZES
]
RPN = ["rpn_coco48_c4", "rpn_lvis866_fpn", "rpn_lvis866_lsj"]
Experiment = Callable[..., Config]


def _quick_and_slow(names: list[str]) -> list:
    """RN50 in full and RN50x4 shallow in the quick set; RN50x4 in full in the slow one."""
    quick = [pytest.param(name, name.endswith("x4"), id=name) for name in names]
    slow = [
        pytest.param(name, False, id=f"{name}-full", marks=pytest.mark.slow) for name in names if name.endswith("x4")
    ]
    return quick + slow


def test_every_config_is_an_experiment_or_a_model_of_one() -> None:
    """No config is left out of the tests below."""
    models = {path.stem for path in CONFIGS.glob("*.py")} - set(PRETRAIN + DETECTORS + ZERO_SHOT + RPN)
    assert models == {
        "ov_fast_rcnn_clip_rn50_c4", "ov_mask_rcnn_clip_rn50_c4", "rpn_clip_rn50_c4", "rpn_r50_c4", "rpn_r50_fpn",
        "rpn_r50_fpn_lsj",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "shallow"), _quick_and_slow(PRETRAIN))
def test_pretraining_takes_a_step_and_embeds_regions(
    experiment: Experiment, labelled: Callable[[str], None], name: str, shallow: bool
) -> None:
    """One step moves the student but nothing frozen; afterwards each region has a finite embedding."""
    labelled(name)
    runner = Runner.from_cfg(experiment(name, shallow))
    student, before = runner.model.student, _copy(runner.model)
    runner.train()
    _check_what_moved(runner.model, before, "student.backbone.layer3.", "student.res5.", "student.attention_pool.")

    batch = runner.model.data_preprocessor(next(iter(runner.train_dataloader)), training=False)
    with torch.inference_mode():
        embeddings = runner.model(**batch, mode="tensor")
    assert embeddings.shape == (2 * 3, student.embed_dim)
    assert embeddings.isfinite().all()


@pytest.mark.parametrize(("name", "shallow"), _quick_and_slow(DETECTORS))
def test_detector_takes_a_step_and_is_validated(experiment: Experiment, name: str, shallow: bool) -> None:
    """One step and one validation; the classifier holds the classes of the training again afterwards."""
    runner = Runner.from_cfg(experiment(name, shallow))
    before = _copy(runner.model)
    runner.train()
    heads = ("roi_head.mask_head.",) if "lvis" in name else ()
    _check_what_moved(
        runner.model, before, "backbone.layer3.", "roi_head.shared_head.", "roi_head.bbox_head.attention_pool.",
        "roi_head.bbox_head.fc_reg.", *heads,
    )  # fmt: skip
    classes = {"coco48": 48, "lvis866": 866, "coco80": 80, "lvis1203": 1203}[name.split("_")[1]]
    head = runner.model.roi_head.bbox_head
    assert head.num_classes == len(head.fc_cls.embeddings) == classes

    numbers = _last_numbers(runner)
    wanted = {"coco48": "coco/novel_ap50", "coco80": "coco/bbox_mAP"}.get(name.split("_")[1], "lvis/segm_APr")
    assert wanted in numbers
    assert all(math.isfinite(value) for value in numbers.values())


@pytest.mark.parametrize(("name", "shallow"), _quick_and_slow(ZERO_SHOT))
def test_zero_shot_detects(experiment: Experiment, name: str, shallow: bool) -> None:
    """A test run gives the protocol's numbers; detections are the proposals themselves, among all the classes."""
    runner = Runner.from_cfg(experiment(name, shallow))
    numbers = runner.test()
    assert ("coco/novel_ap50" if "coco" in name else "lvis/bbox_APr") in numbers
    assert all(math.isfinite(value) for value in numbers.values())

    batch = next(iter(runner.test_dataloader))
    with torch.inference_mode():
        (found,) = runner.model.test_step(batch)
    proposals, boxes = batch["data_samples"][0].proposals.bboxes, found.pred_instances.bboxes
    classes = 65 if "coco" in name else 1203
    assert len(runner.model.roi_head.bbox_head.fc_cls.embeddings) == classes
    assert found.pred_instances.labels.max() < classes
    # The tiny pictures are tested at their own size.
    assert (boxes[:, None] - proposals).abs().amax(dim=2).amin(dim=1).max() < 1e-3


@pytest.mark.parametrize("name", RPN)
def test_rpn_takes_a_step_and_fills_a_store(experiment: Experiment, name: str) -> None:
    """One step; a test run then writes both pictures' proposals to the region store that the config names."""
    config = experiment(name)
    metrics = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    store = next(metric.store for metric in metrics if metric.type == "StoreProposals")
    for metric in metrics:
        if metric.type == "StoreProposals":
            # Not to overwrite the store of the same name that other tests read.
            metric.store = str(Path(config.work_dir) / store)
    runner = Runner.from_cfg(config)
    before = _copy(runner.model)
    runner.train()
    assert not torch.equal(runner.model.bbox_head.rpn_reg.weight, before["bbox_head.rpn_reg.weight"])
    numbers = runner.test()
    written = RegionStore.open(Path(config.work_dir) / store)
    assert written.image_ids == [3, 4]
    assert 0 < written.num_regions == numbers["proposals/regions"] <= 2 * 10
    assert written.metadata == {"config": name}


def _copy(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _check_what_moved(model: torch.nn.Module, before: dict[str, torch.Tensor], *parts: str) -> None:
    """Some parameter of each part moved, and none of the stem, of layer1, of a norm or of the text tower."""
    moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    for part in parts:
        assert any(name.startswith(part) for name in moved), part
    frozen = ("backbone.conv", "backbone.layer1.", ".bn", "text_tower.", ".downsample.1.")
    assert not [name for name in moved if any(part in name for part in frozen)]


def _last_numbers(runner: Runner) -> dict[str, float]:
    """What the last validation measured."""
    scalars = runner.message_hub.log_scalars
    return {
        key.removeprefix("val/"): float(buffer.current())
        for key, buffer in scalars.items()
        if key.startswith("val/") and "time" not in key
    }
