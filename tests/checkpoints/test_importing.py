"""What stages import: each of our own files and each official kind gives the names that the stages load strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import publish
from regionclip.checkpoints.official import clip_weights, detector_weights, rpn_weights
from regionclip.errors import InputError
from regionclip.models.assembly import build_detector, build_rpn
from regionclip.models.detector_settings import finetune_settings
from regionclip.params import Params
from tests.conftest import profile_params


@pytest.fixture
def params() -> Params:
    return profile_params("tiny")


def test_clip_folder(clip_path: Path) -> None:
    model_cfg, state = clip_weights(clip_path)
    folder = ClipFolder.open(clip_path)
    assert model_cfg == folder.model_cfg and state.keys() == folder.state_dict().keys()


def test_rpn_of_the_stage_says_its_classes(clip_path: Path, params: Params, tmp_path: Path) -> None:
    model = build_rpn(ClipFolder.open(clip_path), params.rpn, nms_iou=0.7, proposals=5)
    publish(model.state_dict(), tmp_path / "rpn.pth", {"classes": ["star", "boat"]})
    state, classes = rpn_weights(tmp_path / "rpn.pth")
    load_strictly(model, state, tmp_path / "rpn.pth")
    assert classes == ("star", "boat")


def test_detector_of_the_stage_takes_the_given_embeddings(clip_path: Path, params: Params, tmp_path: Path) -> None:
    model = build_detector(ClipFolder.open(clip_path), finetune_settings(params.finetune, params.finetune.sets["coco"], 3))
    publish(model.state_dict(), tmp_path / "detector.pth", {"classes": ["a", "b", "c"]})
    wanted = torch.randn(3, 32)
    load_strictly(model, detector_weights(tmp_path / "detector.pth", wanted), tmp_path / "detector.pth")
    assert torch.equal(model.roi_head.bbox_head.fc_cls.embeddings, wanted)


def test_a_detector_is_no_rpn(clip_path: Path, params: Params, tmp_path: Path) -> None:
    model = build_detector(ClipFolder.open(clip_path), finetune_settings(params.finetune, params.finetune.sets["coco"], 3))
    publish(model.state_dict(), tmp_path / "detector.pth", {"classes": ["a", "b", "c"]})
    with pytest.raises(InputError, match="this is a detector in MMDetection's names") as caught:
        rpn_weights(tmp_path / "detector.pth")
    assert caught.value.file == tmp_path / "detector.pth" and caught.value.mend
