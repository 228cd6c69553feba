"""What is built from a CLIP folder holds that CLIP's weights, and a folder that does not fit is refused."""

from __future__ import annotations

import copy
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from mmdet.models import StandardRoIHead
from torch import Tensor, nn

from regionclip.checkpoints.clip_folder import CONFIG, ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.errors import InputError
from regionclip.models.assembly import build_detector, build_pretrainer, build_rpn
from regionclip.models.proposal_score_roi_head import ProposalScoreRoIHead
from regionclip.models.region_encoder import visual_state
from regionclip.params.stages import LossWeights, Pretrain, Rpn
from tests.conftest import profile_params

FUSED = {"roi_head.type": "FusedRoIHead", "roi_head.fusion": {"base": 0.3, "novel": 0.7}}


@pytest.fixture
def folder(clip_path: Path) -> ClipFolder:
    return ClipFolder.open(clip_path)


@pytest.fixture
def rpn() -> Rpn:
    """Section rpn of the tiny params: two anchor scales, 100 boxes before suppression."""
    return profile_params("tiny").rpn


def _pretrain(image_text: float = 1.0) -> Pretrain:
    """Section pretrain of the tiny params, with a threshold of 0.2 and no distillation."""
    losses = LossWeights(contrastive=1.0, distillation=0.0, image_text=image_text)
    return profile_params("tiny").pretrain.model_copy(update={"threshold": 0.2, "losses": losses})


def _visual(folder: ClipFolder) -> dict[str, Tensor]:
    state = folder.state_dict()
    return {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}


def _holds(state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)


def _frozen_prefixes(backbone: nn.Module) -> set[str]:
    frozen = {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    return {name.split(".")[0] for name in frozen if ".bn" not in name and "downsample.1" not in name}


def test_detector_holds_the_whole_image_tower(folder: ClipFolder) -> None:
    model = build_detector(folder, {})
    head = model.roi_head.bbox_head
    parts = (model.backbone, model.roi_head.shared_head, head.attention_pool)
    assert _holds(visual_state(*parts), _visual(folder))


def test_detector_takes_changes_by_dotted_keys(folder: ClipFolder) -> None:
    changes = {
        "roi_head.bbox_head.num_classes": 5,
        "test_cfg.rcnn.max_per_img": 7,
        "roi_head.bbox_head.with_reg": False,
    }
    model = build_detector(folder, changes)
    assert model.roi_head.bbox_head.fc_cls.embeddings.shape == (5, 32)
    assert model.roi_head.test_cfg.max_per_img == 7 and not model.roi_head.bbox_head.with_reg
    assert type(model.roi_head) is StandardRoIHead
    scored = build_detector(folder, {"roi_head.type": "ProposalScoreRoIHead", "roi_head.score_mode": "sigmoid"})
    assert isinstance(scored.roi_head, ProposalScoreRoIHead)
    assert build_detector(folder, {}).roi_head.bbox_head.num_classes == 48, "the config is not changed for the next"


@pytest.mark.parametrize(("stages", "frozen"), [(0, set()), (2, {"conv1", "conv2", "conv3", "bn1", "layer1"})])
def test_frozen_stages_reach_the_backbone(folder: ClipFolder, stages: int, frozen: set[str]) -> None:
    backbone = build_detector(folder, {}, frozen_stages=stages).backbone
    assert _frozen_prefixes(backbone) - {"bn1", "bn2", "bn3"} == frozen - {"bn1"}


def test_rpn_has_the_backbone_and_the_params_settings(folder: ClipFolder, rpn: Rpn) -> None:
    model = build_rpn(folder, rpn, nms_iou=0.6, proposals=9)
    expected = {key: value for key, value in _visual(folder).items() if not key.startswith(("layer4.", "attnpool."))}
    assert _holds(model.backbone.state_dict(), expected)
    test = model.test_cfg.rpn
    assert (test.nms_pre, test.max_per_img, test.nms.iou_threshold) == (100, 9, 0.6)
    (anchors,) = model.rpn_head.prior_generator.base_anchors if hasattr(model, "rpn_head") else _base_anchors(model)
    sides = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
    assert sorted({round(float(area.sqrt())) for area in sides}) == [24, 40], "1.5 and 2.5 times the stride of 16"


def _base_anchors(model: nn.Module) -> list[Tensor]:
    """MMDetection's RPN is a single-stage detector, whose head is called bbox_head."""
    return model.bbox_head.prior_generator.base_anchors


def test_pretrainer_holds_the_image_tower(folder: ClipFolder) -> None:
    model = build_pretrainer(folder, _pretrain())
    assert _holds(model.student.to_visual_state_dict(), _visual(folder))
    assert model.concept_threshold == 0.2 and model.distillation_loss is None
    assert model.whole_image_box == "image", "the demo's"


def test_pretrainer_takes_pictures_as_rgb(folder: ClipFolder) -> None:
    """Its data set gives RGB; MMDetection's pipelines, and so the detectors, give BGR."""
    pretrainer = build_pretrainer(folder, _pretrain())
    detector = build_detector(folder, {})
    picture = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    rgb = pretrainer.data_preprocessor({"inputs": [picture], "data_samples": None})["inputs"]
    bgr = detector.data_preprocessor({"inputs": [picture.flip(0)], "data_samples": None})["inputs"]
    assert torch.equal(rgb, bgr)


@pytest.mark.parametrize("build", ["rpn", "detector", "pretrainer"])
def test_weights_of_another_clip_are_refused(clip_path: Path, tmp_path: Path, rpn: Rpn, build: str) -> None:
    path = Path(shutil.copytree(clip_path, tmp_path / "clip"))
    config = json.loads((path / CONFIG).read_text())
    config["model_cfg"]["vision_cfg"]["width"] = 8
    (path / CONFIG).write_text(json.dumps(config))
    folder = ClipFolder.open(path)
    with pytest.raises(InputError, match="another shape") as caught:
        {
            "rpn": lambda: build_rpn(folder, rpn, nms_iou=0.7, proposals=9),
            "detector": lambda: build_detector(folder, {}),
            "pretrainer": lambda: build_pretrainer(folder, _pretrain()),
        }[build]()
    assert caught.value.file == folder.weights and caught.value.key.startswith("visual.")


@pytest.mark.parametrize("kind", ["rpn", "official rpn", "detector", "fused", "masks"])
def test_what_a_checkpoint_is_loaded_over_lacks_nothing(folder: ClipFolder, rpn: Rpn, kind: str) -> None:
    """Parameters and buffers, those too that no checkpoint has; weights that a training starts from are not read."""
    official = rpn.model_copy(update={"architecture": "r50_fpn", "objectness": "classification"})
    absent = {"backbone_weights": "absent.pth"}
    build = {
        "rpn": partial(build_rpn, folder, rpn, nms_iou=0.7, proposals=9),
        "official rpn": lambda filled: build_rpn(
            folder, official if filled else official.model_copy(update=absent), nms_iou=0.7, proposals=9, filled=filled
        ),
        "detector": partial(build_detector, folder, {}),
        "fused": partial(build_detector, folder, FUSED),
        "masks": partial(build_detector, folder, {}, masks=True),
    }[kind]
    whole, model = build(filled=True), build(filled=False)
    load_strictly(model, whole.state_dict(), "x.pth")
    for tensors in ("named_parameters", "named_buffers"):
        assert _holds(dict(getattr(model, tensors)()), dict(getattr(whole, tensors)()))


def test_a_fused_head_stays_as_clip_is(folder: ClipFolder) -> None:
    """The one part of a trained detector that its checkpoint does not hold."""
    head = build_detector(folder, FUSED, filled=False).roi_head
    expected = {key: value for key, value in _visual(folder).items() if key.startswith("layer4.")}
    assert _holds({f"layer4.{key}": value for key, value in head.shared_head.layer4.state_dict().items()}, expected)


def test_initialisation_by_a_runner_keeps_the_weights(folder: ClipFolder, rpn: Rpn) -> None:
    """MMEngine's Runner calls init_weights once more before it trains."""
    models = [
        build_rpn(folder, rpn, nms_iou=0.7, proposals=9),
        build_detector(folder, {}),
        build_pretrainer(folder, _pretrain()),
    ]
    for model in models:
        before = copy.deepcopy(model.state_dict())
        model.init_weights()
        assert _holds(model.state_dict(), before)
