"""RN50x4: region features equal open_clip's own layer4 and attention pool on 18 x 18 regions."""

from __future__ import annotations

import pytest
import torch
import torchvision
from open_clip.modified_resnet import ModifiedResNet

from regionclip.models.region_encoder import RegionEncoder, describe, part_configs


@pytest.fixture(scope="module")
def visual() -> ModifiedResNet:
    torch.manual_seed(0)
    tower = ModifiedResNet([4, 6, 10, 6], output_dim=640, heads=40, image_size=288, width=80)
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.3, 0.6)
        elif isinstance(module, torch.nn.Conv2d):
            # Without their means, filters keep different regions apart.
            module.weight.data -= module.weight.data.mean((1, 2, 3), keepdim=True)
    return tower.eval()


def test_parts_have_the_official_sizes(visual: ModifiedResNet) -> None:
    parts = part_configs(*describe(visual))
    assert parts["backbone"]["layers"] == [4, 6, 10] and parts["res5"]["blocks"] == 6
    assert parts["roi_extractor"]["roi_layer"]["output_size"] == 18
    assert parts["roi_extractor"]["out_channels"] == 1280
    assert parts["attention_pool"] == dict(
        type="AttentionPool", spacial_dim=9, embed_dim=2560, num_heads=40, output_dim=640
    )


@torch.no_grad()
def test_regions_equal_open_clips_modules(visual: ModifiedResNet) -> None:
    encoder = RegionEncoder.from_clip(visual).eval()
    maps = torch.randn(2, 1280, 6, 10).relu()
    boxes = [torch.tensor([[3.0, 5, 90, 80], [0, 0, 160, 96]]), torch.tensor([[40.5, 10.25, 70, 60]])]
    regions = torchvision.ops.roi_align(maps, boxes, 18, 1 / 16, 0, aligned=True)
    layer4 = visual.layer4(regions)
    assert layer4.shape == (3, 2560, 9, 9)
    expected = visual.attnpool(layer4)
    found = encoder.encode(maps, boxes)
    assert found.shape == (3, 640)
    largest = float(expected.abs().max())
    assert float((found - expected).abs().max()) < 1e-5 * largest
    assert float((expected[0] - expected[2]).abs().max()) > 1e-2 * largest, "regions must differ for this to tell"
