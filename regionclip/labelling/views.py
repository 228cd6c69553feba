"""What the teacher sees of a region: RoI features of the scene (the paper's view), a crop of the picture, or both."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from regionclip.models.region_encoder import RegionEncoder

_CROPS = 512  # that the teacher sees at a time, whatever the number of pictures


def square_boxes(boxes: Tensor, context: float) -> Tensor:
    """Square boxes (N, 4) xyxy around ``boxes``, side ``context`` times the longer side; they may leave the picture."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) * context / 2
    return torch.cat([centres - halves, centres + halves], dim=1)


def crop_regions(images: Tensor, boxes: Sequence[Tensor], size: int, context: float) -> Tensor:
    """Cut squares around boxes out of pictures and resize them.

    Args:
        images: Normalised pictures, (B, 3, H, W); what lies outside is 0, the mean colour.
        boxes: For each picture (n_i, 4) xyxy in pixels.
        size: Side of the crops in pixels.
        context: Side of the square over the longer side of the box.

    Returns:
        Crops (sum of n_i, 3, size, size), pictures in order.
    """
    squares = [square_boxes(of_one, context) for of_one in boxes]
    return roi_align(images, squares, output_size=size, sampling_ratio=2, aligned=True)


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
        self.visual, size = clip.visual, clip.visual.image_size
        self._side = size if isinstance(size, int) else size[0]
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
        if self.view == "crop":
            return self._crops(images, boxes)
        regions = self.encoder(images, boxes)
        if self.view == "roi":
            return regions
        normalize = nn.functional.normalize
        return normalize(regions, dim=-1) + normalize(self._crops(images, boxes), dim=-1)

    def _crops(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        crops = crop_regions(images, boxes, self._side, self.crop_context)
        crops = crops.contiguous(memory_format=torch.channels_last)
        return torch.cat([self.visual(part) for part in crops.split(_CROPS)])
