"""ClipPretrainer: an open_clip CLIP under MMEngine's training contract."""

from __future__ import annotations

import open_clip
import torch
from mmdet.registry import MODELS
from mmengine.dist import get_rank, get_world_size
from mmengine.model import BaseModel
from torch import Tensor

from regionclip.checkpoints.clip_folder import MEAN, STD


@MODELS.register_module()
class ClipPretrainer(BaseModel):
    """Image-text contrastive pretraining with open_clip's own model and loss.

    Args:
        clip: The CLIP to train.
    """

    def __init__(self, clip: open_clip.CLIP) -> None:
        super().__init__()
        self.clip = clip
        # Over the batches of all processes, as one would compute it.
        self.loss = open_clip.ClipLoss(gather_with_grad=True, rank=get_rank(), world_size=get_world_size())
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1) * 255, persistent=False)

    def forward(self, inputs: list[Tensor], tokens: list[Tensor], mode: str = "tensor") -> dict[str, Tensor] | Tensor:
        """Compute the loss or the image features.

        Args:
            inputs: B images, uint8 (3, H, W) RGB.
            tokens: B captions, int64 (L,).
            mode: ``loss`` gives a dictionary with ``loss_clip``; ``tensor`` gives features (B, D).
        """
        images = (torch.stack(inputs) - self.mean) / self.std
        images = images.contiguous(memory_format=torch.channels_last)
        if mode == "tensor":
            return self.clip.encode_image(images)
        image_features, text_features, logit_scale = self.clip(images, torch.stack(tokens))
        return {"loss_clip": self.loss(image_features, text_features, logit_scale)}
