"""CLIPs with a transformer or a ConvNeXt: a map of embeddings of any picture, its regions, what trains, round trips."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from open_clip import CLIP
from torch.nn import functional as F

from regionclip.checkpoints.clip_folder import build_clip
from regionclip.models.region_encoder import RegionEncoder, part_configs
from tests.models.conftest import CONVNEXT, TEXT, VIT


def built(vision: dict[str, Any]) -> tuple[CLIP, RegionEncoder]:
    torch.manual_seed(0)
    clip = build_clip(dict(embed_dim=32, quick_gelu=True, vision_cfg=vision, text_cfg=TEXT)).eval()
    encoder = RegionEncoder(**part_configs(vision, 32, frozen_stages=3, quick_gelu=True))
    encoder.load_visual_state_dict(clip.visual.state_dict())
    return clip, encoder.eval()


@pytest.mark.parametrize(("vision", "stride"), [(VIT, 16), (CONVNEXT, 32)], ids=["vit", "convnext"])
def test_map_has_a_unit_embedding_at_every_place_and_weights_come_back(vision: dict[str, Any], stride: int) -> None:
    clip, encoder = built(vision)
    assert encoder.backbone.stride == stride and encoder.embed_dim == 32
    features = encoder.forward_features(torch.randn(2, 3, 64, 96))
    assert features.shape == (2, 32, 64 // stride, 96 // stride)
    torch.testing.assert_close(features.norm(dim=1), torch.ones_like(features[:, 0]))
    # A region that covers whole places, one sample in the middle of each, is their mean.
    box = torch.tensor([[0.0, 0, 2 * stride, 2 * stride]])
    region = encoder.encode(features[:1], [box])
    torch.testing.assert_close(region[0], features[0, :, :2, :2].mean(dim=(1, 2)))
    state, expected = encoder.to_visual_state_dict(), clip.visual.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_last_block_of_a_transformer_lets_no_place_see_another() -> None:
    """With all other blocks' attention and MLP silenced, a map of one picture is that of its patches one by one."""
    clip, _ = built(VIT)
    for block in clip.visual.transformer.resblocks[:-1]:
        for part in (block.attn.out_proj, block.mlp.c_proj):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
    encoder, images = RegionEncoder.from_clip(clip.visual), torch.randn(1, 3, 64, 64)
    other = images.clone()
    other[:, :, 16:32, 32:48] = 0
    changed = (encoder.forward_features(images) - encoder.forward_features(other)).abs().amax(dim=1)[0]
    assert changed[1, 2] > 1e-3 and (changed > 1e-6).sum() == 1


def test_convnext_of_equal_places_is_the_whole_embedding() -> None:
    """Where all places of the last map are equal, so are mean and place, and the head's norm stands for both."""
    clip, encoder = built(CONVNEXT)
    trunk = clip.visual.trunk
    places = torch.randn(1, trunk.num_features, 1, 1).expand(-1, -1, 2, 2)
    whole = clip.visual.head(trunk.forward_head(places))
    encoder.backbone.tower.trunk.stages[3] = torch.nn.Identity()
    encoder.backbone.tower.trunk.stages[2].forward = lambda _: places
    features = encoder.forward_features(torch.randn(1, 3, 64, 64))
    torch.testing.assert_close(features[0, :, 1, 0], F.normalize(whole, dim=1)[0])


@pytest.mark.parametrize(("level", "first"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)])
def test_levels_freeze_positions_and_quarters_of_the_blocks(level: int, first: int) -> None:
    encoder = RegionEncoder(**part_configs(VIT, 32, frozen_stages=level))
    trained = {name for name, parameter in encoder.backbone.tower.named_parameters() if parameter.requires_grad}
    blocks = {name.split(".")[2] for name in trained if "resblocks" in name}
    assert blocks == {str(number) for number in range(first, 4)} and {"proj", "ln_post.weight"} < trained
    assert ("conv1.weight" in trained) == ("positional_embedding" in trained) == (level == 0)
