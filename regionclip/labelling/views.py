"""What the teacher sees of a region: RoI features of the scene (the paper's view), a crop of the picture, or both."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor, nn

from regionclip.models.region_crops import embed_crops
from regionclip.models.region_encoder import RegionEncoder


class RegionTeacher(nn.Module):
    """A frozen CLIP that embeds regions of a picture.

    Args:
        clip: The teacher.
        view: ``roi`` (RoI features, the paper's), ``crop``, or ``both`` (sum of the two unit vectors).
        crop_context: Side of the square crop over the longer side of the box.
    """

    def __init__(self, clip: open_clip.CLIP, view: str, crop_context: float) -> None:
        super().__init__()
        self.view, self.crop_context = view, crop_context
        self.visual = clip.visual
        self.encoder = RegionEncoder.from_clip(clip.visual) if view != "crop" else None
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Embed regions.

        Args:
            images: Normalised pictures, (B, 3, H, W).
            boxes: For each picture (n_i, 4) xyxy in pixels.

        Returns:
            Features (sum of n_i, D), pictures in order, not normalised for one view.
        """
        if self.view == "roi":
            return self.encoder(images, boxes)
        crops = embed_crops(self.visual, images, boxes, self.crop_context)
        if self.view == "crop":
            return crops
        regions = self.encoder(images, boxes)
        normalize = nn.functional.normalize
        return normalize(regions, dim=-1) + normalize(crops, dim=-1)
