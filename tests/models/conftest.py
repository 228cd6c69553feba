"""A CLIP small enough for tests, and regions on its pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.structures import InstanceData
from open_clip.model import CLIP
from torch import Tensor

from regionclip.models.region_encoder import describe, part_configs

TEXT = dict(context_length=16, vocab_size=49408, width=32, heads=2, layers=1)
VIT = dict(layers=4, width=32, head_width=8, patch_size=16, image_size=64)
CONVNEXT = dict(timm_model_name="convnext_atto", timm_pool="", timm_proj="linear", image_size=64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def clip() -> CLIP:
    """ModifiedResNet 1-1-1-1 of width 16 on 64 pixels (grid 2), embeddings of 32, a text tower of two layers."""
    torch.manual_seed(0)
    visual = dict(layers=[1, 1, 1, 1], width=16, head_width=64, image_size=64)
    model = CLIP(32, visual, dict(context_length=16, vocab_size=100, width=32, heads=2, layers=2))
    for module in model.visual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Fresh norms would hide a mix-up: give each its own statistics, and residual branches a weight.
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return model.eval()


@pytest.fixture
def parts(clip: CLIP) -> dict[str, dict[str, Any]]:
    """Configs of the parts that hold ``clip``."""
    return part_configs(*describe(clip.visual))


@pytest.fixture
def random_boxes() -> Callable[[int], Tensor]:
    """A function that draws (n, 4) xyxy boxes inside a picture of 64 pixels."""
    return _random_boxes


@pytest.fixture
def labelled_regions() -> Callable[[int, int], InstanceData]:
    """A function that draws n regions with three of C concepts each, as the pretrainer reads them."""

    def draw(count: int, concepts: int) -> InstanceData:
        return InstanceData(
            bboxes=_random_boxes(count),
            concept_index=torch.stack([torch.randperm(concepts)[:3] for _ in range(count)]),
            concept_prob=(torch.rand(count, 3) / 3).sort(descending=True).values,
        )

    return draw


def _random_boxes(count: int) -> Tensor:
    start = torch.rand(count, 2) * 32
    return torch.cat([start, start + 8 + torch.rand(count, 2) * 24], dim=1)
