"""MMDetection's FastRCNN built from these parts through the registry: one training step, one prediction."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData
from open_clip.model import CLIP
from torch import nn

from regionclip.models.region_encoder import load_visual, visual_state

CLASSES = 3
_RCNN_TRAIN = dict(
    assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False),
    sampler=dict(type="RandomSampler", num=16, pos_fraction=0.25, add_gt_as_proposals=True),
    pos_weight=-1,
    mask_size=4,
)
_RCNN_TEST = dict(score_thr=0.001, nms=dict(type="nms", iou_threshold=0.5), max_per_img=20, mask_thr_binary=0.5)


def _detector(clip: CLIP, parts: dict, with_reg: bool = True, mask: bool = False) -> nn.Module:
    head = dict(
        type="RegionEmbeddingHead",
        attention_pool=parts["attention_pool"],
        num_classes=CLASSES,
        with_reg=with_reg,
        cls_predictor_cfg=dict(type="TextEmbeddingClassifier"),
        loss_cls=dict(type="FocalScaledCrossEntropy"),
        loss_bbox=dict(type="L1Loss"),
    )
    mask_head = dict(
        type="FCNMaskHead", num_convs=0, in_channels=512, conv_out_channels=8, num_classes=CLASSES, class_agnostic=True
    )
    detector = MODELS.build(
        ConfigDict(
            type="FastRCNN",
            data_preprocessor=dict(type="mmdet.DetDataPreprocessor", mean=[120.0] * 3, std=[70.0] * 3),
            backbone=parts["backbone"],
            roi_head=dict(
                type="StandardRoIHead",
                bbox_roi_extractor=parts["roi_extractor"],
                shared_head=parts["res5"],
                bbox_head=head,
                **(dict(mask_head=mask_head) if mask else {}),
            ),
            train_cfg=dict(rcnn=_RCNN_TRAIN),
            test_cfg=dict(rcnn=_RCNN_TEST),
        )
    )
    load_visual(clip.visual.state_dict(), *_visual_parts(detector))
    detector.roi_head.bbox_head.fc_cls.set_vocabulary(torch.randn(CLASSES, 32))
    return detector


def _visual_parts(detector: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    return detector.backbone, detector.roi_head.shared_head, detector.roi_head.bbox_head.attention_pool


@pytest.fixture
def batch(random_boxes: Callable) -> dict[str, list]:
    """Two pictures at twice their original size, each with 2 objects and 12 proposals."""
    samples = []
    for _ in range(2):
        sample = DetDataSample(
            metainfo=dict(img_shape=(64, 64), ori_shape=(32, 32), scale_factor=(2.0, 2.0), pad_shape=(64, 64))
        )
        masks = BitmapMasks(torch.randint(0, 2, (2, 64, 64)).numpy(), 64, 64)
        labels = torch.randint(0, CLASSES, (2,))
        sample.gt_instances = InstanceData(bboxes=random_boxes(2), labels=labels, masks=masks)
        sample.proposals = InstanceData(bboxes=random_boxes(12), scores=torch.linspace(-1, 2, 12))
        samples.append(sample)
    return dict(inputs=[torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in samples], data_samples=samples)


def test_one_training_step_moves_what_should_move(clip: CLIP, parts: dict, batch: dict) -> None:
    detector = _detector(clip, parts).train()
    before = copy.deepcopy(detector.state_dict())
    optimizer = torch.optim.SGD([parameter for parameter in detector.parameters() if parameter.requires_grad], lr=0.01)
    logged = detector.train_step(batch, OptimWrapper(optimizer))
    assert logged["loss_cls"] > 0 and logged["loss_bbox"] > 0
    moved = {name for name, value in detector.state_dict().items() if not torch.equal(value, before[name])}
    trainable = {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    assert trainable - moved <= {"roi_head.bbox_head.attention_pool.k_proj.bias"}, "its gradient is 0 in theory"
    assert moved <= trainable
    assert {"backbone.layer2.0.conv1.weight", "roi_head.shared_head.layer4.0.conv1.weight"} < moved
    assert {"roi_head.bbox_head.fc_reg.weight", "roi_head.bbox_head.attention_pool.q_proj.weight"} < moved
    assert not [name for name in moved if "layer1" in name or "bn" in name or "embeddings" in name]


def test_init_weights_touches_only_the_box_deltas(clip: CLIP, parts: dict) -> None:
    detector = _detector(clip, parts)
    before = copy.deepcopy(detector.state_dict())
    detector.init_weights()
    moved = {name for name, value in detector.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"roi_head.bbox_head.fc_reg.weight", "roi_head.bbox_head.fc_reg.bias"}
    assert float(detector.roi_head.bbox_head.fc_reg.weight.std()) == pytest.approx(0.001, rel=0.3)
    assert detector.roi_head.bbox_head.fc_reg.bias.tolist() == [0] * 4


def test_predicts_with_another_vocabulary_than_it_was_trained_with(clip: CLIP, parts: dict, batch: dict) -> None:
    detector = _detector(clip, parts).eval()
    detector.roi_head.bbox_head.fc_cls.set_vocabulary(torch.randn(9, 32))
    with torch.no_grad():
        results = [sample.pred_instances for sample in detector.test_step(batch)]
    assert {label for result in results for label in result.labels.tolist()} - set(range(CLASSES))
    assert all(0 < len(result) <= 20 and (result.bboxes <= 32).all() for result in results)


def test_without_regression_boxes_are_the_proposals(clip: CLIP, parts: dict, batch: dict) -> None:
    """Zero-shot: detections are proposals, back in original pixels."""
    detector = _detector(clip, parts, with_reg=False).eval()
    with torch.no_grad():
        results = [sample.pred_instances for sample in detector.test_step(copy.deepcopy(batch))]
    for result, sample in zip(results, batch["data_samples"], strict=True):
        distance = torch.cdist(result.bboxes, sample.proposals.bboxes / 2)
        assert distance.min(dim=1).values.max() < 1e-4
    assert "roi_head.bbox_head.fc_reg.weight" not in detector.state_dict()


def test_weights_go_back_to_clip(clip: CLIP, parts: dict) -> None:
    state = visual_state(*_visual_parts(_detector(clip, parts)))
    expected = clip.visual.state_dict()
    assert set(state) == set(expected) and all(torch.equal(state[key], value) for key, value in expected.items())


def test_stock_mask_head_shares_the_map_of_layer4(clip: CLIP, parts: dict, batch: dict) -> None:
    """LVIS: one deconvolution and one convolution, class-agnostic; masks for classes never trained too."""
    detector = _detector(clip, parts, mask=True)
    shapes = {name: tuple(p.shape) for name, p in detector.roi_head.mask_head.named_parameters()}
    assert shapes["upsample.weight"] == (512, 8, 2, 2) and shapes["conv_logits.weight"] == (1, 8, 1, 1)
    losses = detector(**detector.train().data_preprocessor(batch, True), mode="loss")
    assert losses["loss_mask"] > 0
    detector.roi_head.bbox_head.fc_cls.set_vocabulary(torch.randn(9, 32))
    with torch.no_grad():
        (result, _) = [sample.pred_instances for sample in detector.eval().test_step(batch)]
    assert result.masks.shape == (len(result), 32, 32)
