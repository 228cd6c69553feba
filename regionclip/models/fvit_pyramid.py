"""The neck of F-ViT: maps of four blocks of a transformer, all of one stride, as a feature pyramid."""

from __future__ import annotations

from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


@MODELS.register_module()
class FViTPyramid(BaseModule):
    """Brings four maps to 1/4, 1/2, 1 and 2 times the patch's stride, and MMDetection's ``FPN`` of five levels on them.

    As CLIPSelf's detector does, but with group norm for its batch norm: no batch, and no number of processes, changes a
    result.

    Args:
        in_channels: Width C of the transformer, a multiple of 32.
        out_channels: Of the levels.
    """

    def __init__(self, in_channels: int, out_channels: int = 256) -> None:
        super().__init__()

        def doubled() -> nn.Module:
            return nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)

        self.scales = nn.ModuleList(
            [
                nn.Sequential(doubled(), nn.GroupNorm(32, in_channels), nn.GELU(), doubled()),
                doubled(),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        norm = dict(type="GN", num_groups=32)
        self.fpn = FPN([in_channels] * 4, out_channels, num_outs=5, norm_cfg=norm)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map four maps (B, C, h, w), h and w even, to five levels (B, out_channels, .., ..), finest first.

        What follows the four, the map of embeddings, is passed on.
        """
        levels = [scale(level) for scale, level in zip(self.scales, maps, strict=False)]
        return (*self.fpn(levels), *maps[4:])
