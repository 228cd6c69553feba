"""What stages import: each of our own files and each official kind gives the names that the stages load strictly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import publish
from regionclip.checkpoints.official import clip_weights, detector_weights, rpn_weights
from regionclip.cli import main
from regionclip.errors import InputError
from regionclip.inference import RegionCLIP
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
    model = build_detector(
        ClipFolder.open(clip_path), finetune_settings(params.finetune, params.finetune.sets["coco"], 3)
    )
    publish(model.state_dict(), tmp_path / "detector.pth", {"classes": ["a", "b", "c"]})
    wanted = torch.randn(3, 32)
    load_strictly(model, detector_weights(tmp_path / "detector.pth", wanted), tmp_path / "detector.pth")
    assert torch.equal(model.roi_head.bbox_head.fc_cls.embeddings, wanted)


def test_a_detector_is_no_rpn(clip_path: Path, params: Params, tmp_path: Path) -> None:
    model = build_detector(
        ClipFolder.open(clip_path), finetune_settings(params.finetune, params.finetune.sets["coco"], 3)
    )
    publish(model.state_dict(), tmp_path / "detector.pth", {"classes": ["a", "b", "c"]})
    with pytest.raises(InputError, match="this is a detector in MMDetection's names") as caught:
        rpn_weights(tmp_path / "detector.pth")
    assert caught.value.file == tmp_path / "detector.pth" and caught.value.mend


@pytest.mark.slow
def test_official_checkpoints_become_a_bundle(
    official: Callable[[str], dict], of_architecture: Callable[[str], dict], tmp_path: Path
) -> None:
    """A fine-tuned detector, the proposal network in it and a pretrained CLIP, of the profile's experiment: opened, it
    looks for other names than the 48 that it was trained on."""
    torch.save({"model": official("ft_coco")}, tmp_path / "detector.pth")
    torch.save({"model": of_architecture("RN50")}, tmp_path / "clip.pth")
    detector, clip = str(tmp_path / "detector.pth"), str(tmp_path / "clip.pth")
    options = ["--rpn", detector, "--clip", clip, "--profile", "transfer_coco48_rn50", "-o", str(tmp_path / "bundle")]
    assert main(["bundle", detector, *options]) == 0
    model = RegionCLIP.open(tmp_path / "bundle", device="cpu")
    assert len(model(Image.new("RGB", (64, 48)), ["zebra"], threshold=0).vocabulary) == 1
    assert main(["bundle", detector, "-o", str(tmp_path / "other")]) == 2
