"""From images and boxes to region embeddings: the visual side of RegionCLIP, for student, teacher and zero-shot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.model import BaseModule
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from regionclip.models.clip_patch_map import CLIPPatchMap

# open_clip's prefixes of what runs on regions; the rest is the backbone.
_RES5, _POOL = "layer4.", "attnpool."


@MODELS.register_module()
class RegionEncoder(BaseModule):
    """Dense CLIP features: a backbone that maps pictures, and what embeds the map's regions.

    Of a ResNet that is RoIAlign, layer4 and attention pool. The map of other CLIPs is of embeddings already: a region
    is their mean by RoIAlign to one place.

    Args:
        backbone: Config of :class:`CLIPResNetC4` or :class:`CLIPPatchMap`.
        roi_extractor: Config of :class:`RegionExtractor`: aligned, sampling_ratio 0, stride 16; or of MMDetection's.
        res5: Config of :class:`CLIPRes5`, or None.
        attention_pool: Config of :class:`AttentionPool`, or None.
    """

    def __init__(
        self, backbone: dict, roi_extractor: dict, res5: dict | None = None, attention_pool: dict | None = None
    ) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.roi_extractor = MODELS.build(roi_extractor)
        self.res5 = MODELS.build(res5) if res5 else None
        self.attention_pool = MODELS.build(attention_pool) if attention_pool else None

    @classmethod
    def from_clip(cls, visual: nn.Module) -> RegionEncoder:
        """Take the image tower of a built open_clip model, ``model.visual``: a copy of a ResNet, any other shared."""
        if not isinstance(visual, ModifiedResNet):
            return cls(**_patch_parts({"tower": visual}))
        encoder = cls(**part_configs(*describe(visual)))
        encoder.load_visual_state_dict(visual.state_dict())
        return encoder

    @property
    def embed_dim(self) -> int:
        """Width of the embeddings."""
        return self.backbone.embed_dim if self.attention_pool is None else self.attention_pool.c_proj.out_features

    @property
    def divisor(self) -> int:
        """What the sides of pictures must be a multiple of, so that no patch is cut off; 1 for a ResNet."""
        return getattr(self.backbone, "stride", 1)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map normalised RGB images (B, 3, H, W) to features (B, C, ~H / stride, ~W / stride)."""
        return self.backbone(images)[0]

    def encode(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Embed regions.

        Args:
            features: Of :meth:`forward_features`, one map an image.
            boxes: For each image (n_i, 4) float xyxy, in pixels of the images that the features come from.

        Returns:
            (sum of n_i, D), un-normalised, images in order.
        """
        regions = self.roi_extractor((features,), bbox2roi(list(boxes)))
        return regions.flatten(1) if self.attention_pool is None else self.attention_pool(self.res5(regions))

    def forward(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Embed the regions ``boxes`` of ``images``; see :meth:`encode`."""
        return self.encode(self.forward_features(images), boxes)

    def load_visual_state_dict(self, state: dict[str, Tensor]) -> None:
        """Fill the parts from the state of an image tower; see :func:`load_visual`."""
        load_visual(state, self.backbone, self.res5, self.attention_pool)

    def to_visual_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under the keys of open_clip's tower (add ``visual.`` for a whole CLIP)."""
        return visual_state(self.backbone, self.res5, self.attention_pool)


def part_configs(
    visual: Mapping[str, Any], embed_dim: int, frozen_stages: int = 2, *, quick_gelu: bool = False
) -> dict[str, dict]:
    """Return the configs of the parts that hold a CLIP's image tower.

    Args:
        visual: ``vision_cfg`` of an open_clip configuration; of a ResNet layers, width, image_size, optionally
            head_width.
        embed_dim: D, its ``embed_dim``.
        frozen_stages: See :class:`CLIPResNetC4` and :class:`CLIPPatchMap`.
        quick_gelu: As in the configuration; ResNets have none.

    Returns:
        ``backbone`` and ``roi_extractor``, and of a ResNet ``res5`` and ``attention_pool``, for
        :class:`RegionEncoder`; a detector takes them as backbone, bbox_roi_extractor, shared_head and the head's
        attention_pool.
    """
    if not isinstance(visual.get("layers"), Sequence):
        tower = dict(embed_dim=embed_dim, vision_cfg=dict(visual), quick_gelu=quick_gelu)
        return _patch_parts({**tower, "frozen_stages": frozen_stages})
    layers, width, grid = list(visual["layers"]), visual["width"], visual["image_size"] // 32
    # layer4 halves the regions to the pool's grid.
    roi_layer = dict(type="RoIAlign", output_size=2 * grid, sampling_ratio=0, aligned=True, use_torchvision=True)
    return dict(
        backbone=dict(type="CLIPResNetC4", layers=layers[:3], width=width, frozen_stages=frozen_stages),
        roi_extractor=dict(type="RegionExtractor", roi_layer=roi_layer, out_channels=width * 16, featmap_strides=[16]),
        res5=dict(type="CLIPRes5", blocks=layers[3], width=width),
        attention_pool=dict(
            type="AttentionPool",
            spacial_dim=grid,
            embed_dim=width * 32,
            num_heads=width * 32 // visual.get("head_width", 64),
            output_dim=embed_dim,
        ),
    )


def _patch_parts(tower: dict[str, Any]) -> dict[str, dict]:
    roi_layer = dict(type="RoIAlign", output_size=1, sampling_ratio=0, aligned=True, use_torchvision=True)
    with torch.device("meta"):
        sizes = CLIPPatchMap(**tower)
    extractor = dict(type="SingleRoIExtractor", roi_layer=roi_layer, out_channels=sizes.embed_dim)
    extractor["featmap_strides"] = [sizes.stride]
    return dict(backbone=dict(type="CLIPPatchMap", **tower), roi_extractor=extractor)


def describe(visual: ModifiedResNet) -> tuple[dict[str, Any], int]:
    """Return (``vision_cfg``, ``embed_dim``) of a built tower, as :func:`part_configs` takes them."""
    width = visual.conv3.out_channels
    layers = [len(getattr(visual, f"layer{i}")) for i in (1, 2, 3, 4)]
    head_width = width * 32 // visual.attnpool.num_heads
    grid = round((len(visual.attnpool.positional_embedding) - 1) ** 0.5)
    cfg = dict(layers=layers, width=width, image_size=grid * 32, head_width=head_width)
    return cfg, visual.attnpool.c_proj.out_features


def load_visual(
    state: Mapping[str, Tensor],
    backbone: nn.Module,
    res5: nn.Module | None = None,
    attention_pool: nn.Module | None = None,
) -> None:
    """Fill the parts from ``state``, whose keys are those of open_clip's tower (no ``visual.`` prefix).

    Raises:
        RuntimeError: A key is missing or left over, or a shape differs; the message lists them.
    """
    if isinstance(backbone, CLIPPatchMap):
        backbone.tower.load_state_dict(state)
        return
    rest = {k: v for k, v in state.items() if not k.startswith((_RES5, _POOL))}
    backbone.load_state_dict(rest)
    res5.load_state_dict({k: v for k, v in state.items() if k.startswith(_RES5)})
    attention_pool.load_state_dict({k.removeprefix(_POOL): v for k, v in state.items() if k.startswith(_POOL)})


def visual_state(
    backbone: nn.Module, res5: nn.Module | None = None, attention_pool: nn.Module | None = None
) -> dict[str, Tensor]:
    """Return the parts' weights under the keys of open_clip's tower; the inverse of :func:`load_visual`."""
    if isinstance(backbone, CLIPPatchMap):
        return backbone.tower.state_dict()
    pool = {_POOL + k: v for k, v in attention_pool.state_dict().items()}
    return {**backbone.state_dict(), **res5.state_dict(), **pool}
