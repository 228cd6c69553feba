"""A config and the profile of its name say the same: schedule, losses, thresholds, sizes of pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

from regionclip.models.assembly import CONFIGS
from regionclip.models.detector_settings import finetune_settings, zero_shot_settings
from regionclip.params import Params, Schedule, load_params

PROFILES = Path(__file__).parents[2] / "profiles"
SIZES = ("rn50", "rn50x4")
FINETUNED = [
    f"{task}_{size}"
    for task in ("transfer_coco48", "transfer_lvis866", "supervised_coco80", "supervised_lvis1203")
    for size in SIZES
]


@cache
def _config(name: str) -> Config:
    return Config.fromfile(CONFIGS / f"{name}.py")


@cache
def _profile(name: str) -> Params:
    return load_params(PROFILES / f"{name}.yaml")


def _check_schedule(config: Config, schedule: Schedule) -> None:
    assert config.train_cfg.max_iters == schedule.iterations
    assert config.auto_scale_lr.base_batch_size == schedule.batch_size
    optimizer = config.optim_wrapper.optimizer
    assert optimizer.type == schedule.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (schedule.learning_rate, schedule.weight_decay)
    warmup, steps = config.param_scheduler
    assert (warmup.end, steps.milestones) == (schedule.warmup_iterations, schedule.milestones)
    clip = schedule.clip_gradients
    assert config.optim_wrapper.get("clip_grad") == (clip and {"max_norm": clip.norm})
    if clip is not None:
        assert (clip.per, config.optim_wrapper.type) == ("parameter", "PerParameterClipOptimWrapper")


def _check_settings(config: Config, settings: dict) -> None:
    """Apply what the profile gives to the config's model: nothing changes."""
    changed = Config({"model": config.model.to_dict()})
    changed.merge_from_dict({f"model.{key}": value for key, value in settings.items()})
    before, after = config.model.to_dict(), changed.model.to_dict()
    for model in (before, after):
        # The default.
        model["roi_head"]["bbox_head"]["loss_cls"].setdefault("average", "regions")
    assert after == before


@pytest.mark.parametrize("name", FINETUNED)
def test_fine_tuning(name: str) -> None:
    """Schedule and detector of the transfers and of the supervised trainings."""
    config, finetune = _config(name), _profile(name).finetune
    target = finetune.lvis if "lvis" in name else finetune.coco
    _check_schedule(config, target.schedule)
    classes = config.model.roi_head.bbox_head.num_classes
    _check_settings(config, finetune_settings(finetune, target, classes))
    assert config.model.backbone.frozen_stages == finetune.frozen_stages
    assert ("mask_head" in config.model.roi_head) is target.masks
    assert config.train_dataloader.dataset.get("oversample_thr") == target.repeat_threshold
    detection = _profile(name).detection
    dataset = config.train_dataloader.dataset
    (broadcast,) = [step for step in dataset.get("dataset", dataset).pipeline if step.type == "ProposalBroadcaster"]
    sides = [(detection.max_size, short) for short in detection.train_short_sides]
    assert broadcast.transforms[0].scales == sides
    assert broadcast.transforms[0].max_size == detection.max_size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dataset", ["coco", "lvis"])
@pytest.mark.parametrize("boxes", ["gt", "rpn"])
def test_zero_shot(size: str, dataset: str, boxes: str) -> None:
    """Detector of the four cells."""
    config, params = _config(f"zero_shot_{dataset}_{boxes}_{size}"), _profile(f"zero_shot_{size}").zero_shot
    least = getattr(getattr(params.score_threshold, dataset), boxes)
    detections = {"coco": 100, "lvis": 300}[dataset]
    classes = {"coco": 65, "lvis": 1203}[dataset]
    settings = zero_shot_settings(params, classes, detections, least, use_objectness=boxes == "rpn")
    _check_settings(config, settings)


@pytest.mark.parametrize("name", [f"pretrain_{data}_{size}" for data in ("coco", "cc3m") for size in SIZES])
def test_pretraining(name: str) -> None:
    """Schedule, losses and pictures."""
    config, params = _config(name), _profile(name).pretrain
    _check_schedule(config, params.schedule)
    dataset, model = config.train_dataloader.dataset, config.model
    assert (dataset.regions_per_image, dataset.scales, dataset.max_size, dataset.interpolation) == (
        params.regions_per_image, params.scales, params.max_size, params.interpolation,
    )  # fmt: skip
    assert (model.concept_threshold, model.backbone.frozen_stages) == (params.threshold, params.frozen_stages)
    for loss in ("contrastive", "distillation", "image_text"):
        assert model[f"{loss}_loss"].temperature == params.temperature
        assert model[f"{loss}_loss"].get("loss_weight", 1.0) == getattr(params.losses, loss)


@pytest.mark.parametrize("name", ["rpn_coco48_c4", "rpn_lvis866_fpn", "rpn_lvis866_lsj"])
def test_rpn(name: str) -> None:
    """Schedule, anchors, and what the test keeps."""
    config, params = _config(name), _profile(name).rpn
    _check_schedule(config, params.schedule)
    test = config.model.test_cfg.rpn
    assert (test.nms_pre, test.max_per_img) == (params.pre_nms, params.proposals)
    assert config.model.rpn_head.anchor_generator.scales == params.anchor_scales
