"""The numbers of each experiment config against those of the official configs and scripts, written out once more."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from mmengine.config import Config

from regionclip.models.assembly import CONFIGS
from regionclip.text.class_names import COCO_80, COCO_ALL65, COCO_BASE, COCO_NOVEL

SOFT_NMS = {"type": "soft_nms", "method": "gaussian", "sigma": 0.5, "iou_threshold": 0.5, "min_score": 0.001}
HARD_NMS = {"type": "nms", "iou_threshold": 0.5}
SHORT_SIDES = [640, 672, 704, 736, 768, 800]

# steps, milestones, rate, weight decay, warm-up steps, first factor of the warm-up, pictures a step
SCHEDULES: dict[str, tuple] = {
    "pretrain_coco": (600_000, [300_000, 525_000], 0.002, 1e-4, 1000, 0.001, 96),
    "pretrain_cc3m": (600_000, [300_000, 525_000], 0.002, 1e-4, 1000, 0.001, 96),
    "transfer_coco48": (90_000, [60_000, 80_000], 0.002, 1e-4, 5000, 0.001, 16),
    "transfer_lvis866": (180_000, [120_000, 160_000], 0.002, 1e-4, 5000, 0.001, 16),
    "supervised_coco80": (90_000, [60_000, 80_000], 0.002, 1e-4, 5000, 0.001, 16),
    "supervised_lvis1203": (180_000, [120_000, 160_000], 0.002, 1e-4, 5000, 0.001, 16),
    "rpn_coco48_c4": (90_000, [60_000, 80_000], 0.02, 1e-4, 1000, 0.001, 16),
    "rpn_lvis866_fpn": (180_000, [120_000, 160_000], 0.02, 1e-4, 1000, 0.001, 16),
    "rpn_lvis866_lsj": (737_500, [655_556, 710_184], 0.1, 4e-5, 500, 0.067, 64),
}
# classes in training, score threshold, detections a picture, NMS, gamma, background weight, mean over, score mode
DETECTORS: dict[str, tuple] = {
    "transfer_coco48": (48, 0.001, 100, SOFT_NMS, 0.5, 0.2, None, None),
    "supervised_coco80": (80, 0.001, 100, SOFT_NMS, 0.5, 0.2, None, None),
    "transfer_lvis866": (866, 0.02, 300, SOFT_NMS, 0.0, 0.8, "weights", "official"),
    "supervised_lvis1203": (1203, 0.02, 300, SOFT_NMS, 0.0, 0.8, "weights", "official"),
    "zero_shot_coco_gt": (65, 0.001, 100, HARD_NMS, None, None, None, None),
    "zero_shot_coco_rpn": (65, 0.001, 100, HARD_NMS, None, None, None, "official"),
    "zero_shot_lvis_gt": (1203, 0.0001, 300, HARD_NMS, None, None, None, None),
    "zero_shot_lvis_rpn": (1203, 0.02, 300, HARD_NMS, None, None, None, "official"),
}
# blocks, width, RoI side, channels of layer4, pool side, heads, embedding
ARCHITECTURES = {"rn50": ([3, 4, 6, 3], 64, 14, 2048, 7, 32, 1024), "rn50x4": ([4, 6, 10, 6], 80, 18, 2560, 9, 40, 640)}
# boxes before NMS (of a level), proposals, IoU of NMS
RPN_TEST = {
    "rpn_coco48_c4": (6000, 1000, 0.7),
    "rpn_lvis866_fpn": (1000, 1000, 0.9),
    "rpn_lvis866_lsj": (1000, 1000, 0.7),
}


@cache
def _read(name: str) -> Config:
    return Config.fromfile(CONFIGS / f"{name}.py")


def _sizes(task: str) -> list[str]:
    return [task] if task.startswith("rpn") else [f"{task}_rn50", f"{task}_rn50x4"]


@pytest.mark.parametrize("task", SCHEDULES)
def test_schedule(task: str) -> None:
    """Steps, rates and warm-up; pretraining clips each parameter's gradient at 5, nothing else clips."""
    steps, milestones, rate, decay, warmup, factor, pictures = SCHEDULES[task]
    for name in _sizes(task):
        config = _read(name)
        assert config.train_cfg.max_iters == steps
        assert config.optim_wrapper.optimizer == {"type": "SGD", "lr": rate, "momentum": 0.9, "weight_decay": decay}
        linear, multi_step = config.param_scheduler
        assert (linear.type, linear.begin, linear.end, linear.start_factor) == ("LinearLR", 0, warmup, factor)
        assert (multi_step.type, multi_step.milestones, multi_step.gamma) == ("MultiStepLR", milestones, 0.1)
        assert not linear.by_epoch and not multi_step.by_epoch
        assert config.auto_scale_lr.base_batch_size == pictures
        clip = {"max_norm": 5.0} if task.startswith("pretrain") else None
        assert config.optim_wrapper.get("clip_grad") == clip
        kind = "PerParameterClipOptimWrapper" if clip else "OptimWrapper"
        assert config.optim_wrapper.type == kind


@pytest.mark.parametrize("task", DETECTORS)
def test_detector(task: str) -> None:
    """Losses, thresholds and score mode."""
    classes, threshold, detections, nms, gamma, background, average, score_mode = DETECTORS[task]
    for name in _sizes(task):
        model = _read(name).model
        head = model.roi_head.bbox_head
        test = model.test_cfg.rcnn
        assert (head.num_classes, test.score_thr, test.max_per_img) == (classes, threshold, detections)
        # `split_thr`, if there, only says how mmcv goes about it.
        assert {**test.nms, **nms} == test.nms
        assert head.cls_predictor_cfg == {"type": "TextEmbeddingClassifier", "temperature": 0.01}
        kind = "ProposalScoreRoIHead" if score_mode else "StandardRoIHead"
        assert (model.roi_head.type, model.roi_head.get("score_mode")) == (kind, score_mode)
        assert model.backbone.frozen_stages == 2
        assert head.get("with_reg", True) is not task.startswith("zero_shot")
        if gamma is not None:
            loss = head.loss_cls
            assert (loss.type, loss.gamma, loss.background_weight) == ("FocalScaledCrossEntropy", gamma, background)
            assert loss.get("average") == average
            assert head.loss_bbox == {"type": "L1Loss", "loss_weight": 1.0}
            sampler, assigner = model.train_cfg.rcnn.sampler, model.train_cfg.rcnn.assigner
            assert (sampler.num, sampler.pos_fraction, sampler.add_gt_as_proposals) == (512, 0.25, True)
            assert assigner.pos_iou_thr == assigner.neg_iou_thr == 0.5


@pytest.mark.parametrize("task", [*DETECTORS, "pretrain_coco", "pretrain_cc3m"])
@pytest.mark.parametrize("size", ARCHITECTURES)
def test_architecture(task: str, size: str) -> None:
    """RN50x4 changes every part that holds CLIP's weights, the mask head and the text tower; RN50 changes none."""
    blocks, width, roi, channels, grid, heads, embed_dim = ARCHITECTURES[size]
    model = _read(f"{task}_{size}").model
    if task.startswith("pretrain"):
        res5, extractor, pool = model.res5, model.roi_extractor, model.attention_pool
        text = model.text_tower
        assert (text.embed_dim, text.text_cfg.width) == (embed_dim, {"rn50": 512, "rn50x4": 640}[size])
        assert (text.text_cfg.heads, text.text_cfg.layers) == ({"rn50": 8, "rn50x4": 10}[size], 12)
        assert (text.text_cfg.context_length, text.text_cfg.vocab_size, text.quick_gelu) == (77, 49408, True)
    else:
        res5, extractor = model.roi_head.shared_head, model.roi_head.bbox_roi_extractor
        pool = model.roi_head.bbox_head.attention_pool
        if "mask_head" in model.roi_head:
            assert model.roi_head.mask_head.in_channels == channels
            assert model.train_cfg.rcnn.mask_size == 2 * grid
    assert [*model.backbone.layers, res5.blocks] == blocks
    assert model.backbone.width == res5.width == width
    layer = extractor.roi_layer
    assert (layer.output_size, layer.sampling_ratio, layer.aligned) == (roi, 0, True)
    assert (extractor.out_channels, extractor.featmap_strides) == (width * 16, [16])
    assert (pool.spacial_dim, pool.embed_dim, pool.num_heads, pool.output_dim) == (grid, channels, heads, embed_dim)
    if init := model.get("init_cfg"):
        assert init.type == "CLIPPretrained"
        assert init.folder == ("artifacts/teacher" if task.startswith("pretrain") else f"weights/regionclip_{size}")


@pytest.mark.parametrize("task", ["pretrain_coco", "pretrain_cc3m"])
def test_pretraining(task: str) -> None:
    """Losses, regions and pictures; three pictures on each of 32 GPUs."""
    for name in _sizes(task):
        config = _read(name)
        model, dataset = config.model, config.train_dataloader.dataset
        assert (model.concept_threshold, model.whole_image_box, model.backbone.frozen_stages) == (0.1, "canvas", 2)
        for loss in (model.contrastive_loss, model.distillation_loss, model.image_text_loss):
            assert loss.temperature == 0.01
            assert loss.get("loss_weight", 1.0) == 1.0
        assert (dataset.regions_per_image, dataset.scales, dataset.max_size) == (100, [800], 1333)
        assert (dataset.interpolation, dataset.flip_prob) == ("bicubic", 0.5)
        assert config.train_dataloader.batch_size * 32 == 96


@pytest.mark.parametrize("task", ["transfer_coco48", "transfer_lvis866", "supervised_coco80", "supervised_lvis1203"])
def test_training_pictures(task: str) -> None:
    """Six short sides and a flip for training, 800 for tests; LVIS repeats rare classes; two pictures on 8 GPUs."""
    for name in _sizes(task):
        config = _read(name)
        loader = config.train_dataloader
        assert (loader.batch_size, loader.sampler.type) == (2, "InfiniteSampler")
        assert loader.batch_sampler.type == "AspectRatioBatchSampler"
        if "lvis" in task:
            assert (loader.dataset.type, loader.dataset.oversample_thr) == ("ClassBalancedDataset", 1e-3)
        dataset = loader.dataset.get("dataset", loader.dataset)
        steps = {step["type"]: step for step in dataset.pipeline}
        assert steps["LoadAnnotations"].get("with_mask", False) is ("lvis" in task)
        resize, flip = steps["ProposalBroadcaster"].transforms
        assert resize.scales == [(1333, short) for short in SHORT_SIDES]
        assert (resize.resize_type, resize.max_size, resize.backend) == ("ResizeShortSide", 1333, "pillow")
        assert (flip.type, flip.prob) == ("RandomFlip", 0.5)
        _check_test_pictures(config)
        assert config.train_cfg.val_interval == 25_000


@pytest.mark.parametrize("task", [task for task in DETECTORS if task.startswith("zero_shot")])
def test_zero_shot_pictures(task: str) -> None:
    """True boxes or the store that holds proposals kept up to an IoU of 0.9."""
    for name in _sizes(task):
        config = _read(name)
        _check_test_pictures(config)
        load = config.test_dataloader.dataset.pipeline[2]
        data = task.split("_")[2]
        wanted = {"gt": ("LoadGroundTruthAsProposals", None)}
        wanted["rpn"] = ("LoadStoredProposals", f"data/proposals/zero_shot_{data}_val")
        assert (load.type, load.get("store")) == wanted[task.split("_")[3]]


def _check_test_pictures(config: Config) -> None:
    """One picture at a time, of 800 by at most 1333 pixels, read and resized by Pillow."""
    assert config.test_dataloader.batch_size == 1
    steps = {step["type"]: step for step in config.test_dataloader.dataset.pipeline}
    (resize,) = steps["ProposalBroadcaster"].transforms
    assert resize == {"type": "ResizeShortSide", "scale": 800, "max_size": 1333, "backend": "pillow"}
    assert "LoadPicture" in steps


@pytest.mark.parametrize("name", RPN_TEST)
def test_rpn(name: str) -> None:
    """Proposals before and after NMS; raw logits; anchors of 32 to 512 pixels."""
    config = _read(name)
    test = config.model.test_cfg.rpn
    assert (test.nms_pre, test.max_per_img, test.nms.iou_threshold) == RPN_TEST[name]
    assert (test.nms.type, test.min_bbox_size) == ("nms", 0)
    head = config.model.rpn_head
    assert (head.type, head.anchor_generator.scale_major) == ("LogitRPNHead", False)
    anchors = ([2, 4, 8, 16, 32], [16]) if "c4" in name else ([8], [4, 8, 16, 32, 64])
    assert (head.anchor_generator.scales, head.anchor_generator.strides) == anchors
    assert head.get("num_convs", 1) == (2 if "lsj" in name else 1)
    pictures = config.train_dataloader.batch_size
    assert pictures * 8 == SCHEDULES[name][-1]


def test_large_scale_jitter() -> None:
    """Scale 0.1 to 2 of 1024 pixels, a crop of 1024; boxes that the crop takes away are dropped, pictures are not."""
    dataset = _read("rpn_lvis866_lsj").train_dataloader.dataset.dataset
    steps = {step["type"]: step for step in dataset.pipeline}
    assert (steps["RandomResize"].scale, steps["RandomResize"].ratio_range) == ((1024, 1024), (0.1, 2.0))
    assert (steps["RandomCrop"].crop_size, steps["RandomCrop"].allow_negative_crop) == ((1024, 1024), True)
    assert steps["FilterAnnotations"].keep_empty is False


# training classes and file, test classes and file
DATA: dict[str, tuple[Any, str, Any, str]] = {
    "transfer_coco48_rn50": (COCO_BASE, "ov_coco_train_base48", COCO_ALL65, "ov_coco_val_all65"),
    "supervised_coco80_rn50": (COCO_80, "instances_train2017", COCO_80, "instances_val2017"),
    "transfer_lvis866_rn50": (866, "lvis_v1_train_base866", 1203, "lvis_v1_val"),
    "supervised_lvis1203_rn50": (1203, "lvis_v1_train", 1203, "lvis_v1_val"),
    "rpn_coco48_c4": (COCO_BASE, "ov_coco_train_base48", COCO_ALL65, "ov_coco_val_all65"),
    "rpn_lvis866_fpn": (866, "lvis_v1_train_base866", 1203, "lvis_v1_val"),
    "rpn_lvis866_lsj": (866, "lvis_v1_train_base866", 1203, "lvis_v1_val"),
}


@pytest.mark.parametrize("name", DATA)
def test_classes_and_files(name: str) -> None:
    """What a config trains on and is tested on; no novel class is in a training."""
    config = _read(name)
    train = config.train_dataloader.dataset
    train, test = train.get("dataset", train), config.test_dataloader.dataset
    train_classes, train_file, test_classes, test_file = DATA[name]
    for dataset, classes, file in ((train, train_classes, train_file), (test, test_classes, test_file)):
        found = dataset.metainfo.classes
        assert len(found) == classes if isinstance(classes, int) else tuple(found) == classes
        assert dataset.ann_file.endswith(f"/{file}.json")
    if "coco48" in name:
        assert not set(train.metainfo.classes) & set(COCO_NOVEL)


@pytest.mark.parametrize("task", [task for task in DETECTORS if task != "supervised_coco80"])
def test_protocol(task: str) -> None:
    """COCO counts 100 detections a picture, LVIS 300, without the pictures that the official loader leaves out."""
    for name in _sizes(task):
        metric = _read(name).test_evaluator
        if "coco" in task:
            assert (metric.type, metric.metric, metric.proposal_nums) == ("OVCocoMetric", "bbox", (1, 10, 100))
        else:
            kinds = "bbox" if task.startswith("zero_shot") else ["bbox", "segm"]
            assert (metric.type, metric.metric, metric.max_detections) == ("FederatedLVISMetric", kinds, 300)
            assert metric.images == "labelled"


def test_lvis_classes() -> None:
    """1203 distinct names by id, spelled as in text banks; 866 are base, and well-known rare classes are not."""
    config = _read("_base_/datasets/lvis_classes")
    assert len(set(config.LVIS_ALL)) == 1203
    assert len(config.LVIS_BASE) == 866
    assert config.LVIS_ALL[0] == "aerosol can"
    assert config.LVIS_ALL[1202] == "zucchini"
    assert "bat animal" in config.LVIS_BASE
    rare = [name for name in config.LVIS_ALL if name not in config.LVIS_BASE]
    assert rare[:4] == ["applesauce", "apricot", "arctic type of shoe", "armoire"]
    assert (len(rare), rare[-1]) == (337, "wolf")


def test_a_run_writes_a_config_that_reads_the_same(tmp_path: Any) -> None:
    """What MMEngine dumps beside the weights holds values only, and is the config again."""
    for name in ("transfer_lvis866_rn50x4", "pretrain_coco_rn50"):
        config = _read(name)
        config.dump(tmp_path / f"{name}.py")
        again = Config.fromfile(tmp_path / f"{name}.py")
        assert again.model == config.model
        assert again.train_dataloader == config.train_dataloader
