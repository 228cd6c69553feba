"""Crops of regions, and what a whole CLIP image tower makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

_CROPS = 512  # at a time, whatever the number of pictures


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


def embed_crops(visual: nn.Module, images: Tensor, boxes: Sequence[Tensor], context: float) -> Tensor:
    """Embed crops by an image tower of open_clip, in the size that it was trained on: (sum of n_i, D), un-normalised.

    Other arguments are those of `crop_regions`.
    """
    size = visual.image_size
    crops = crop_regions(images, boxes, size if isinstance(size, int) else size[0], context)
    crops = crops.contiguous(memory_format=torch.channels_last)
    return torch.cat([visual(part) for part in crops.split(_CROPS)])
