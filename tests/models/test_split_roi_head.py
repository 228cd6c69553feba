"""The closed branch never sees a pseudo box, the open one learns its name alone, and a test mixes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from regionclip.models.fused_roi_head import fuse
from regionclip.models.split_roi_head import SplitRoIHead

TEXTS = torch.eye(32)[:3]  # of a true, a pseudo and another true class
TRAIN = dict(
    assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, ignore_iof_thr=-1),
    sampler=dict(type="RandomSampler", num=8, pos_fraction=0.5),
    pos_weight=-1,
)
BOXES = torch.tensor([[4.0, 4, 30, 30], [32, 4, 60, 30], [4, 34, 30, 60]])


@pytest.fixture
def head(parts: dict[str, Any]) -> SplitRoIHead:
    settings = ConfigDict(
        type="SplitRoIHead",
        bbox_roi_extractor=parts["roi_extractor"],
        shared_head=parts["res5"],
        bbox_head=dict(
            type="RegionEmbeddingHead",
            attention_pool=parts["attention_pool"],
            num_classes=2,
            cls_predictor_cfg=dict(type="TextEmbeddingClassifier", temperature=0.1),
            loss_cls=dict(type="FocalScaledCrossEntropy", gamma=0.0, background_weight=0.2),
            loss_bbox=dict(type="L1Loss"),
        ),
        train_cfg=TRAIN,
        fusion={"base": 0.2, "novel": 0.6},
        pseudo_labels=[1],
    )
    model = MODELS.build(settings)
    model.bbox_head.fc_cls.set_vocabulary(TEXTS[[0, 2]])
    model.freeze()
    model.open_branch.bbox_head.fc_cls.set_vocabulary(TEXTS)
    return model


def _losses(head: SplitRoIHead, maps: tuple[torch.Tensor], labels: list[int]) -> dict[str, torch.Tensor]:
    """The losses of a picture with one box of each label, a proposal on each and one beside, whatever is sampled."""
    sample = DetDataSample(gt_instances=InstanceData(bboxes=BOXES[labels], labels=torch.tensor(labels)))
    proposals = InstanceData(bboxes=torch.cat([BOXES + 1, BOXES[:1] + 20]), scores=torch.zeros(4))
    return head.loss(maps, [proposals], [sample])


def test_the_closed_branch_is_trained_as_if_there_were_no_pseudo_box(head: SplitRoIHead) -> None:
    """Names, places and numbers; the open one sees it, and learns no place."""
    maps = (torch.rand(1, 256, 4, 4),)
    losses, without = _losses(head, maps, [0, 1, 2]), _losses(head, maps, [0, 2])
    assert set(losses) == {"loss_cls", "loss_bbox", "acc", "open_loss_cls", "open_acc"}
    for name in ("loss_cls", "loss_bbox"):
        assert torch.equal(losses[name], without[name]) and losses[name] > 0
    assert not torch.equal(losses["open_loss_cls"], without["open_loss_cls"])
    losses["open_loss_cls"].backward()
    assert all(weight.grad is None for weight in head.shared_head.parameters())
    assert all(weight.grad is not None for weight in head.open_branch.shared_head.parameters() if weight.requires_grad)


def test_the_loss_of_a_pseudo_box_by_hand(head: SplitRoIHead) -> None:
    """Of five samples, the box itself, its proposal and three others: the open branch's mean of -log P(pseudo class),
    and 0.2 times -log P(background); the closed branch has background alone, and no place.
    """
    maps = (torch.rand(1, 256, 4, 4),)
    losses = _losses(head, maps, [1])
    proposals = torch.cat([BOXES[1:2], BOXES + 1, BOXES[:1] + 20])
    rois = torch.cat([torch.zeros(5, 1), proposals], dim=1)
    logs = head.open_branch.bbox_head.fc_cls(head.frozen_embeddings(maps, rois)).log_softmax(dim=1)
    labels, weights = torch.tensor([1, 3, 1, 3, 3]), torch.tensor([1, 0.2, 1, 0.2, 0.2])
    wanted = -(weights * logs[torch.arange(5), labels]).sum() / 5
    torch.testing.assert_close(losses["open_loss_cls"], wanted)
    assert losses["loss_bbox"] == 0 and losses["loss_cls"] > 0


@torch.no_grad()
def test_a_test_mixes_the_branches(head: SplitRoIHead) -> None:
    """Classes of the closed branch's vocabulary by the base share, any other by the novel one."""
    maps, rois = (torch.rand(1, 256, 4, 4),), torch.tensor([[0.0, 4, 4, 40, 50]])
    for weight in head.open_branch.shared_head.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    head.eval()
    classify = head.bbox_head.fc_cls
    classify.set_vocabulary(TEXTS)
    found = head._bbox_forward(maps, rois)
    closed, opened = classify(head.bbox_head.embed(found["bbox_feats"])), classify(head.frozen_embeddings(maps, rois))
    torch.testing.assert_close(found["cls_score"], fuse(closed, opened, torch.tensor([0.2, 0.6, 0.2])))
    assert (closed - opened).abs().max() > 0.01
