"""RoIAlign that waits for what is to be pooled, so that 1x1 convolutions run where there are fewer positions."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor

# Pooled numbers below which tables take longer to make than they save.
FEW = 2**19


@MODELS.register_module()
class RegionExtractor(SingleRoIExtractor):
    """``SingleRoIExtractor`` of one level that hands on the map and its boxes, for :class:`CLIPRes5` to pool."""

    def forward(self, feats: tuple[Tensor], rois: Tensor) -> Regions:
        """Pair the map (B, C, H, W) with boxes (N, 5): picture, and xyxy in its pixels."""
        return Regions(feats[0], rois, self.roi_layers[0])


class Regions:
    """Boxes on a feature map.

    RoIAlign takes weighted sums over positions, a 1x1 convolution over channels: which comes first changes no result.

    Args:
        features: The map (B, C, H, W).
        rois: (N, 5), picture and xyxy in pixels. None: the map holds B regions that are pooled already.
        layer: RoIAlign's settings; its side is even.
    """

    def __init__(self, features: Tensor, rois: Tensor | None = None, layer: RoIAlign | None = None) -> None:
        self.features, self.rois, self.layer = features, rois, layer

    @cached_property
    def pooled(self) -> Tensor:
        """RoIAlign of the map, (N, C, S, S)."""
        return self.features if self.rois is None else self._pool(self.features)

    def convolved(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return what the 1x1 convolution of ``weight`` (D, C, 1, 1) and ``bias`` makes of them, (N, D, S, S)."""
        if self._fewer_on_map(1):
            # Samples outside of the map count as 0, with the bias they would not.
            pooled = self._pool(F.conv2d(self.features, weight))
            return pooled.add_(bias.to(pooled)[:, None, None])
        return F.conv2d(self.pooled, weight, bias)

    def halved_and_convolved(self, weight: Tensor) -> Tensor:
        """As :meth:`convolved`, of the means of 2x2 cells: (N, D, S / 2, S / 2)."""
        # Elsewhere D channels would be pooled to all S x S cells first.
        if self._by_table and self._fewer_on_map(4):
            return self._pool(F.conv2d(self.features, weight), 2)
        if self._by_table:
            return F.conv2d(self._pool(self.features, 2), weight)
        return F.conv2d(F.avg_pool2d(self.pooled, 2), weight)

    def _fewer_on_map(self, shrunk: int) -> bool:
        if self.rois is None:
            return False
        batch, _, height, width = self.features.shape
        # An exported model takes any number of regions.
        return _traced() or (self._many and batch * height * width * shrunk < self._cells)

    @property
    def _cells(self) -> int:
        return len(self.rois) * self.layer.output_size[0] ** 2

    @property
    def _many(self) -> bool:
        return self._cells * self.features.shape[1] >= FEW

    @property
    def _by_table(self) -> bool:
        return self.rois is not None and self.features.device.type == "cpu" and not _traced() and self._many

    def _pool(self, features: Tensor, cells: int = 1) -> Tensor:
        """RoIAlign of a map of any width; means of ``cells`` x ``cells``, which only the table can."""
        if not self._by_table:
            # Coordinates of half precision would be wrong by pixels.
            full = torch.promote_types(features.dtype, torch.float32)
            return self.layer(features.to(full), self.rois.to(full)).to(features.dtype)
        rows, starts, weights = self._tables[cells]
        flat = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        pooled = F.embedding_bag(rows, flat, starts, mode="sum", per_sample_weights=weights.to(flat))
        side = self.layer.output_size[0] // cells
        return pooled.view(len(self.rois), side, side, flat.shape[1]).permute(0, 3, 1, 2)

    @cached_property
    def _tables(self) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        scale = self.layer.spatial_scale, self.layer.output_size[0], self.layer.sampling_ratio
        return _Tables(self.features, self.rois, *scale)


class _Tables(dict):
    """For means of n x n cells: rows of the flattened map, where each cell's begin, and their weights."""

    def __init__(self, features: Tensor, rois: Tensor, scale: float, side: int, samples: int) -> None:
        super().__init__()
        self._shape, self._picture = features.shape[2:], rois[:, 0].int()
        boxes = rois[:, 1:].to(torch.promote_types(features.dtype, torch.float32)) * scale - 0.5
        self._samples = [
            _samples(boxes[:, axis], boxes[:, axis + 2], self._shape[1 - axis], side, samples) for axis in (1, 0)
        ]

    def __missing__(self, cells: int) -> tuple[Tensor, Tensor, Tensor]:
        height, width = self._shape
        (top, down), (left, across) = (_weights(*self._samples[axis], cells) for axis in (0, 1))
        weights = down[:, :, None, :, None] * across[:, None, :, None, :]
        used = weights != 0
        rows = (self._picture[:, None, None] * height + top)[:, :, None, :, None] * width + left[:, None, :, None, :]
        counts = used.flatten(3).sum(dim=3).flatten()
        self[cells] = rows[used], (counts.cumsum(0) - counts).int(), weights[used]
        return self[cells]


def _samples(start: Tensor, end: Tensor, size: int, side: int, number: int) -> tuple[Tensor, Tensor]:
    """Place RoIAlign's samples along one axis of a map, to the bit as torchvision does.

    Returns:
        Coordinates and weights, (N, side, samples); regions with fewer samples than others have some of weight 0.
    """
    length = end - start
    cell = length / side
    count = torch.full_like(cell, number) if number else cell.ceil().clamp(min=0)
    step = torch.arange(max(int(count.max()), 1))
    place = (step + 0.5) * cell[:, None] / count.clamp(min=1)[:, None]
    at = (start[:, None] + torch.arange(side) * cell[:, None])[:, :, None] + place[:, None]
    counts = (step < count[:, None])[:, None] & (at >= -1) & (at <= size)
    return at.clamp(0, size - 1), counts / count.clamp(min=1)[:, None, None]


def _weights(at: Tensor, share: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Return first position and weights of the positions from it on: (N, side / cells, k) each."""
    at, share = (part.unflatten(1, (-1, cells)).flatten(2) for part in (at, share))
    low = at.floor()
    first = low.amin(dim=2, keepdim=True)
    reach = int(torch.where(share > 0, low - first, 0).max()) + 2
    positions = first + torch.arange(reach)
    hats = (1 - (at[..., None, :] - positions[..., None]).abs()).clamp(min=0)
    return positions.int(), (hats * share[..., None, :]).sum(dim=3) / cells


def _traced() -> bool:
    """Whether the model is being compiled or exported: the tables' sizes depend on the boxes."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
