"""The region-level convolutions of a CLIP ResNet: layer4, run on every RoIAligned region."""

from __future__ import annotations

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from regionclip.models.clip_resnet_c4 import freeze_batch_norm, keep_batch_norm_fixed


@MODELS.register_module()
class CLIPRes5(BaseModule):
    """``layer4`` of open_clip's ``ModifiedResNet`` as the ``shared_head`` of an RoI head; batch norm is fixed.

    Args:
        blocks: Blocks of layer4, 3 for RN50 and 6 for RN50x4.
        width: Channels of the stem, 64 for RN50 and 80 for RN50x4.
        init_cfg: MMEngine's; without it ``init_weights`` changes nothing.
    """

    def __init__(self, blocks: int = 3, width: int = 64, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.out_channels = width * 32
        trunk = ModifiedResNet([1, 1, 1, blocks], output_dim=1, heads=1, image_size=32, width=width)
        self.layer4 = freeze_batch_norm(trunk.layer4)

    def train(self, mode: bool = True) -> CLIPRes5:
        """Set the mode of everything but batch norm, which stays fixed."""
        return keep_batch_norm_fixed(super().train(mode))

    def forward(self, regions: Tensor) -> Tensor:
        """Map regions (N, width * 16, 2S, 2S) to (N, width * 32, S, S)."""
        return self.layer4(regions)
