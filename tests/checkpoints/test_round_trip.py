"""open_clip's CLIP ResNets through our parts and out again: the same bits, and the same embedding of a whole image."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from mmdet.registry import MODELS
from open_clip.model import CLIP
from torch import Tensor, nn

import regionclip.models  # noqa: F401 - registers the parts
from regionclip.checkpoints.clip_folder import build_clip
from regionclip.checkpoints.key_maps import MODIFIED_RESNET_TO_DETECTOR
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.official import OfficialCheckpoint
from regionclip.models.region_encoder import load_visual, part_configs, visual_state


def _clip(architecture: str) -> CLIP:
    """open_clip's own model with random weights; each norm has statistics of its own, so that a mix-up shows."""
    torch.manual_seed(0)
    clip = build_clip(open_clip.get_model_config(f"{architecture}-quickgelu"))
    for module in clip.visual.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return clip.eval()


def _parts(cfg: dict[str, Any]) -> tuple[nn.Module, ...]:
    configs = part_configs(cfg["vision_cfg"], cfg["embed_dim"])
    return tuple(MODELS.build(configs[name]).eval() for name in ("backbone", "res5", "attention_pool"))


def _there_and_back(clip: CLIP) -> tuple[tuple[nn.Module, ...], dict[str, Tensor]]:
    """Read a state dict as an official file, fill our parts, and make open_clip's state dict of them."""
    checkpoint = OfficialCheckpoint.from_state(clip.state_dict(), "clip.pth", "clip")
    parts = _parts(checkpoint.clip_config())
    load_visual(checkpoint.visual(), *parts)
    rest = {key: value for key, value in checkpoint.clip().items() if not key.startswith("visual.")}
    return parts, {**{f"visual.{key}": value for key, value in visual_state(*parts).items()}, **rest}


@pytest.mark.parametrize("architecture", ["RN50", "RN50x4"])
def test_same_bits_and_same_embedding(architecture: str) -> None:
    """Strictly loaded by a fresh open_clip model; stem to attention pool equals `encode_image` to 1e-5."""
    clip = _clip(architecture)
    (backbone, res5, pool), back = _there_and_back(clip)
    state = clip.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) and back[key].dtype == value.dtype for key, value in state.items())
    with torch.device("meta"):
        fresh = build_clip(open_clip.get_model_config(architecture))
    assert fresh.load_state_dict(back, strict=True, assign=True).unexpected_keys == []
    side = clip.visual.image_size
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, got = clip.encode_image(image), pool(res5(backbone(image)[0]))
    assert wanted.abs().max() > 0.01
    assert (wanted - got).abs().max() <= 1e-5 * wanted.abs().max()


def test_detector_names_lead_back_to_open_clip(official) -> None:
    """A detector's image tower is open_clip's again by the inverse of the table."""
    checkpoint = OfficialCheckpoint.from_state(official("ft_coco"), "ft.pth")
    tower = {key: value for key, value in checkpoint.detector().items() if ".fc_" not in key}
    back = MODIFIED_RESNET_TO_DETECTOR.inverse().apply(tower)
    with torch.device("meta"):
        clip = build_clip(checkpoint.clip_config())
    assert len(back) == len(tower)
    load_strictly(clip.visual, back, "ft.pth")
