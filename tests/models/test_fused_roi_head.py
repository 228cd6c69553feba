"""Scores of the fine-tuned and the pretrained head are mixed as computed by hand, and only when the detector tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from regionclip.models.fused_roi_head import FusedRoIHead, fuse

BASE = torch.eye(32)[:2]
NOVEL = torch.eye(32)[2:3]
ROIS = torch.tensor([[0.0, 4, 4, 40, 50], [1, 0, 10, 60, 60]])


def test_scores_are_those_computed_by_hand() -> None:
    """Probabilities (0.5, 0.25, 0.25) and (0.2, 0.6, 0.2), background last; a fifth and four fifths of the second.

    0.5^0.8 * 0.2^0.2 = 0.5743 * 0.7248 = 0.4163; 0.25^0.2 * 0.6^0.8 = 0.7579 * 0.6645 = 0.5036.
    """
    tuned, frozen = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.2, 0.6, 0.2]])
    mixed = fuse(tuned.log() + 3, frozen.log() - 2, torch.tensor([0.2, 0.8])).softmax(dim=1)
    torch.testing.assert_close(mixed, torch.tensor([[0.4163, 0.5036, 0.0801]]), atol=1e-4, rtol=0)


def test_scores_above_one_are_divided_by_their_sum() -> None:
    """Each head is sure of another class, and each class asks the head that is: 0.9 and 0.8 become 9/17 and 8/17."""
    tuned, frozen = torch.tensor([[0.9, 0.05, 0.05]]), torch.tensor([[0.1, 0.8, 0.1]])
    mixed = fuse(tuned.log(), frozen.log(), torch.tensor([0.0, 1.0])).softmax(dim=1)
    torch.testing.assert_close(mixed, torch.tensor([[9 / 17, 8 / 17, 0]]), atol=1e-6, rtol=0)


def _head(parts: dict[str, Any], **more: Any) -> FusedRoIHead:
    box_head = dict(
        type="RegionEmbeddingHead",
        attention_pool=parts["attention_pool"],
        num_classes=2,
        cls_predictor_cfg=dict(type="TextEmbeddingClassifier", temperature=0.1),
    )
    shared = {"bbox_roi_extractor": parts["roi_extractor"], "shared_head": parts["res5"], "bbox_head": box_head}
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict({"type": "FusedRoIHead", "score_mode": "sigmoid", **shared, **more}))
    model.bbox_head.fc_cls.set_vocabulary(BASE)
    model.freeze()
    for weight in [*model.shared_head.parameters(), *model.bbox_head.attention_pool.parameters()]:
        weight.data += 0.3 * torch.randn_like(weight)
    return model.eval()


@pytest.fixture
def maps() -> tuple[torch.Tensor]:
    return (torch.rand(2, 256, 4, 4),)


@torch.no_grad()
def test_base_and_novel_classes_have_shares_of_their_own(parts: dict[str, Any], maps: tuple[torch.Tensor]) -> None:
    """Base is what has an embedding of the training, of any norm; one of several texts of a name is enough."""
    model = _head(parts, fusion={"base": 0.0, "novel": 1.0})
    classify = model.bbox_head.fc_cls
    classify.set_vocabulary(torch.cat([NOVEL, 7 * BASE[1:], BASE[:1] + 0.1 * NOVEL]))
    found = model._bbox_forward(maps, ROIS)
    frozen, tuned = (
        classify(model.frozen_embeddings(maps, ROIS)),
        classify(model.bbox_head.attention_pool(found["bbox_feats"])),
    )
    torch.testing.assert_close(found["cls_score"], fuse(tuned, frozen, torch.tensor([1.0, 0.0, 1.0])))
    assert (tuned - frozen).abs().max() > 0.1
    classify.set_vocabulary(torch.cat([NOVEL, BASE[:1], NOVEL + BASE[1:]]), torch.tensor([0, 0, 1]))
    tuned, frozen = (
        classify(model.bbox_head.attention_pool(found["bbox_feats"])),
        classify(model.frozen_embeddings(maps, ROIS)),
    )
    found = model._bbox_forward(maps, ROIS)["cls_score"]
    torch.testing.assert_close(found, fuse(tuned, frozen, torch.tensor([0.0, 1.0])))


@torch.no_grad()
def test_no_share_is_no_fusion(parts: dict[str, Any], maps: tuple[torch.Tensor]) -> None:
    """With shares of 0, and in training with any, the head is the one without fusion."""
    plain, fused = (_head(parts, fusion={"base": share, "novel": share}) for share in (0.0, 1.0))
    wanted = super(FusedRoIHead, plain)._bbox_forward(maps, ROIS)["cls_score"]
    found = plain._bbox_forward(maps, ROIS)["cls_score"]
    torch.testing.assert_close(found.softmax(dim=1), wanted.softmax(dim=1), atol=2e-7, rtol=1e-5)
    torch.testing.assert_close(fused.train()._bbox_forward(maps, ROIS)["cls_score"], wanted)
    assert (fused.eval()._bbox_forward(maps, ROIS)["cls_score"].softmax(1) - wanted.softmax(1)).abs().max() > 0.01


def test_a_whole_share_is_the_pretrained_head(parts: dict[str, Any], maps: tuple[torch.Tensor]) -> None:
    """What trains does not reach it: neither weights nor the statistics of batch norms."""
    model = _head(parts, fusion={"base": 1.0, "novel": 1.0})
    with torch.no_grad():
        before = model._bbox_forward(maps, ROIS)["cls_score"].softmax(dim=1)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    model.train()._bbox_forward(maps, ROIS)["cls_score"].square().sum().backward()
    torch.optim.SGD(trained, 0.1).step()
    with torch.no_grad():
        after = model.eval()._bbox_forward(maps, ROIS)["cls_score"].softmax(dim=1)
    assert torch.equal(before, after)
    assert not any(weight.requires_grad for name, weight in model.named_parameters() if name.startswith("frozen"))
