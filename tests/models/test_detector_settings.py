"""The params' settings reach the detector that is built with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmdet.models import StandardRoIHead
from mmengine.model import BaseModel

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import finetune_settings, zero_shot_settings
from regionclip.models.proposal_score_roi_head import ProposalScoreRoIHead
from regionclip.params import Params
from tests.conftest import profile_params


@pytest.fixture
def params() -> Params:
    return profile_params("tiny")


def _build(clip_path: Path, settings: dict) -> BaseModel:
    return build_detector(ClipFolder.open(clip_path), settings)


@pytest.mark.parametrize("use_objectness", [True, False])
def test_zero_shot_moves_no_box_and_weighs_by_objectness_where_there_is_one(
    clip_path: Path, params: Params, use_objectness: bool
) -> None:
    changed = params.zero_shot.model_copy(update={"temperature": 0.02, "nms_iou": 0.4})
    model = _build(clip_path, zero_shot_settings(changed, 12, 50, score_threshold=0.03, use_objectness=use_objectness))
    head, test = model.roi_head.bbox_head, model.roi_head.test_cfg
    assert not head.with_reg and head.num_classes == 12 and head.fc_cls.temperature == 0.02
    assert (test.score_thr, test.nms.iou_threshold, test.max_per_img) == (0.03, 0.4, 50)
    assert type(model.roi_head) is (ProposalScoreRoIHead if use_objectness else StandardRoIHead)
    assert not use_objectness or model.roi_head.score_mode == "sigmoid"


def test_finetuning_of_coco_is_focal(clip_path: Path, params: Params) -> None:
    model = _build(clip_path, finetune_settings(params.finetune, params.finetune.sets["coco"], 8))
    head = model.roi_head.bbox_head
    assert head.with_reg and head.reg_class_agnostic and head.num_classes == 8
    assert (head.loss_cls.gamma, head.loss_cls.background_weight, head.loss_cls.average) == (0.5, 0.2, "regions")
    assert model.roi_head.bbox_sampler.num == 16 and model.roi_head.test_cfg.max_per_img == 20
    assert type(model.roi_head) is StandardRoIHead


def test_finetuning_of_lvis_is_plain_and_weighted(clip_path: Path, params: Params) -> None:
    model = _build(clip_path, finetune_settings(params.finetune, params.finetune.sets["lvis"], 66))
    loss = model.roi_head.bbox_head.loss_cls
    assert (loss.gamma, loss.background_weight, loss.average) == (0.0, 0.8, "weights")
    assert isinstance(model.roi_head, ProposalScoreRoIHead) and model.roi_head.score_mode == "sigmoid"
