"""A CLIP ResNet in two: stem to layer3 give one feature map of stride 16, layer4 runs on every RoIAligned region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip.models.region_extractor import Regions

_STEM = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3", "avgpool")
_STAGES = ("layer1", "layer2", "layer3")

Module = TypeVar("Module", bound=nn.Module)


def freeze_batch_norm(module: Module) -> Module:
    """Fix every batch norm in ``module``: running statistics, and neither scale nor shift trains.

    To be called after each ``train()``, which sets the mode of all children.
    """
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.requires_grad_(False).eval()
    return module


@MODELS.register_module()
class CLIPResNetC4(BaseModule):
    """Stem, layer1, layer2 and layer3 of open_clip's ``ModifiedResNet``, under their own names.

    Batch norm is fixed: it uses its running statistics and nothing of it trains (official
    ``clip_backbone.py``, ``FrozenBatchNorm2d``). The map has ``width * 16`` channels; its side is
    ``ceil(side / 2)`` of the image, then halved three times with rounding down.

    Args:
        layers: Blocks of the first three stages; further numbers are ignored.
        width: Channels of the stem, 64 for RN50 and 80 for RN50x4.
        frozen_stages: What does not train: 0 nothing, 1 the stem, 2 also layer1 (official ``FREEZE_AT 2``),
            3 also layer2, 4 also layer3.
    """

    def __init__(self, layers: Sequence[int], width: int = 64, frozen_stages: int = 2) -> None:
        super().__init__()
        self.out_channels = width * 16
        # layer4 and the attention pool run on regions, so only the smallest are built here and dropped.
        trunk = ModifiedResNet([*layers[:3], 1], output_dim=1, heads=1, image_size=32, width=width)
        for name in _STEM + _STAGES:
            self.add_module(name, getattr(trunk, name))
        stem = [name for name in _STEM if name.startswith(("conv", "bn"))]
        for group in ([stem] + [[stage] for stage in _STAGES])[:frozen_stages]:
            for name in group:
                getattr(self, name).requires_grad_(False)
        freeze_batch_norm(self)

    def train(self, mode: bool = True) -> CLIPResNetC4:
        """Set the mode of everything but batch norm, which stays fixed."""
        return freeze_batch_norm(super().train(mode))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Map normalised RGB images (B, 3, H, W) to one level of features (B, width * 16, ~H / 16, ~W / 16)."""
        features = ModifiedResNet.stem(self, images)
        for stage in _STAGES:
            features = getattr(self, stage)(features)
        return (features,)


@MODELS.register_module()
class CLIPRes5(BaseModule):
    """``layer4`` of open_clip's ``ModifiedResNet`` as the ``shared_head`` of an RoI head; batch norm is fixed.

    Args:
        blocks: Blocks of layer4, 3 for RN50 and 6 for RN50x4.
        width: Channels of the stem, 64 for RN50 and 80 for RN50x4.
    """

    def __init__(self, blocks: int = 3, width: int = 64) -> None:
        super().__init__()
        self.out_channels = width * 32
        trunk = ModifiedResNet([1, 1, 1, blocks], output_dim=1, heads=1, image_size=32, width=width)
        self.layer4 = freeze_batch_norm(trunk.layer4)

    def train(self, mode: bool = True) -> CLIPRes5:
        """Set the mode of everything but batch norm, which stays fixed."""
        return freeze_batch_norm(super().train(mode))

    def forward(self, regions: Regions | Tensor) -> Tensor:
        """Map regions of a map, or regions (N, width * 16, 2S, 2S) that are pooled already, to (N, width * 32, S, S).

        Batch norms are folded into the convolutions before them, and those of the first block that are 1x1 run
        before RoIAlign where that is less work.
        """
        regions = Regions(regions) if isinstance(regions, Tensor) else regions
        first, *rest = self.layer4
        weight, shift = folded(first.downsample[1], first.downsample[2])
        shortcut = regions.halved_and_convolved(weight)
        maps = _block(first, regions.convolved(*folded(first.conv1, first.bn1)), shortcut, shift)
        for block in rest:
            maps = _block(block, F.conv2d(maps, *folded(block.conv1, block.bn1)), maps)
        return maps


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the one convolution that does what ``conv`` and the fixed ``norm`` do."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def _block(block: nn.Module, inner: Tensor, shortcut: Tensor, shift: Tensor | float = 0.0) -> Tensor:
    """Run open_clip's ``Bottleneck`` from its first activation on; ``shift`` is what the shortcut still lacks."""
    inner = F.conv2d(inner.relu_(), *folded(block.conv2, block.bn2), padding=1).relu_()
    weight, bias = folded(block.conv3, block.bn3)
    return F.conv2d(block.avgpool(inner), weight, bias + shift).add_(shortcut).relu_()
