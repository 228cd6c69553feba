"""CLIPPretrained: a model starts from a CLIP folder, in each of its parts, or does not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.errors import InputError
from regionclip.models import clip_pretrained_init  # noqa: F401  (registered)
from regionclip.models.assembly import read_config
from regionclip.models.visual_weights import part_configs, visual_state


@pytest.fixture(scope="module")
def clip(clip_path: Path) -> ClipFolder:
    """The tiny CLIP on disk."""
    return ClipFolder.open(clip_path)


def _parts(clip: ClipFolder) -> dict[str, Any]:
    return part_configs(clip.model_cfg["vision_cfg"], clip.model_cfg["embed_dim"])


def _built(config: ConfigDict, folder: Path) -> torch.nn.Module:
    config.init_cfg = dict(type="CLIPPretrained", folder=str(folder))
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config)
    model.init_weights()
    return model


def _detector(clip: ClipFolder) -> ConfigDict:
    config, parts = read_config("ov_fast_rcnn_clip_rn50_c4.py").model, _parts(clip)
    parts["attention_pool"].pop("type")
    config.backbone, config.roi_head.shared_head = parts["backbone"], parts["res5"]
    config.roi_head.bbox_roi_extractor = parts["roi_extractor"]
    config.roi_head.bbox_head.attention_pool = parts["attention_pool"]
    return config


def _visual(clip: ClipFolder) -> dict[str, torch.Tensor]:
    return {k.removeprefix("visual."): v for k, v in clip.state_dict().items() if k.startswith("visual.")}


def _check_equal(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


def test_detector(clip: ClipFolder) -> None:
    """Backbone, layer4 and pool hold CLIP's weights; the box deltas keep their own start, N(0, 0.001) with bias 0."""
    model = _built(_detector(clip), clip.path)
    head = model.roi_head.bbox_head
    _check_equal(visual_state(model.backbone, model.roi_head.shared_head, head.attention_pool), _visual(clip))
    assert 0 < head.fc_reg.weight.abs().max() < 0.01
    assert not head.fc_reg.bias.any()


def test_rpn(clip: ClipFolder) -> None:
    """The backbone holds stem to layer3; layer4 and the pool have no place and are dropped."""
    config, backbone = read_config("rpn_clip_rn50_c4.py").model, _parts(clip)["backbone"]
    config.backbone = backbone
    config.rpn_head.update(in_channels=backbone["width"] * 16, feat_channels=backbone["width"] * 16)
    model = _built(config, clip.path)
    wanted = {k: v for k, v in _visual(clip).items() if not k.startswith(("layer4.", "attnpool."))}
    _check_equal(model.backbone.state_dict(), wanted)


def test_pretrainer(clip: ClipFolder) -> None:
    """The student holds the image tower and the text tower the text side of one CLIP."""
    config = ConfigDict(
        type="RegionTextPretrainer",
        text_tower=dict(
            type="CLIPTextTower", embed_dim=clip.model_cfg["embed_dim"], text_cfg=clip.model_cfg["text_cfg"],
            quick_gelu=True,
        ),
        image_text_loss=dict(type="ImageTextContrastiveLoss"),
        **_parts(clip),
    )  # fmt: skip
    model = _built(config, clip.path)
    _check_equal(model.student.to_visual_state_dict(), _visual(clip))
    text = {k: v for k, v in clip.state_dict().items() if not k.startswith("visual.") and k != "logit_scale"}
    _check_equal(model.text_tower.state_dict(), text)


def test_clip_of_another_size(clip: ClipFolder) -> None:
    """A folder that does not fit the config is named, and what to give instead."""
    config = _detector(clip)
    config.backbone.layers = [2, 1, 1]
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors: the CLIP does not fit.*layer1\.1"):
        _built(config, clip.path)


def test_folder_that_is_not_there(clip: ClipFolder, tmp_path: Path) -> None:
    """Nothing stays at random weights in silence."""
    with pytest.raises(InputError, match="the file does not exist"):
        _built(_detector(clip), tmp_path / "nowhere")
