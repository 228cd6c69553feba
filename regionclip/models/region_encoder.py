"""From images and boxes to region embeddings: the visual side of RegionCLIP, for student, teacher and zero-shot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.model import BaseModule
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

# open_clip's prefixes of what runs on regions; the rest is the backbone.
_RES5, _POOL = "layer4.", "attnpool."


@MODELS.register_module()
class RegionEncoder(BaseModule):
    """Backbone, RoIAlign, layer4 and attention pool of a CLIP ResNet.

    Args:
        backbone: Config of :class:`CLIPResNetC4`.
        roi_extractor: Config of :class:`RegionExtractor`: aligned, sampling_ratio 0, stride 16.
        res5: Config of :class:`CLIPRes5`.
        attention_pool: Config of :class:`AttentionPool`.
    """

    def __init__(self, backbone: dict, roi_extractor: dict, res5: dict, attention_pool: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.roi_extractor = MODELS.build(roi_extractor)
        self.res5 = MODELS.build(res5)
        self.attention_pool = MODELS.build(attention_pool)

    @classmethod
    def from_clip(cls, visual: ModifiedResNet) -> RegionEncoder:
        """Copy the image tower of a built open_clip model, ``model.visual`` of a ResNet CLIP."""
        encoder = cls(**part_configs(*describe(visual)))
        encoder.load_visual_state_dict(visual.state_dict())
        return encoder

    @property
    def embed_dim(self) -> int:
        """Width of the embeddings."""
        return self.attention_pool.c_proj.out_features

    def forward_features(self, images: Tensor) -> Tensor:
        """Map normalised RGB images (B, 3, H, W) to features (B, C, ~H / 16, ~W / 16)."""
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
        return self.attention_pool(self.res5(regions))

    def forward(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Embed the regions ``boxes`` of ``images``; see :meth:`encode`."""
        return self.encode(self.forward_features(images), boxes)

    def load_visual_state_dict(self, state: dict[str, Tensor]) -> None:
        """Fill the parts from the state of a ``ModifiedResNet``; see :func:`load_visual`."""
        load_visual(state, self.backbone, self.res5, self.attention_pool)

    def to_visual_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under the keys of open_clip's ``ModifiedResNet`` (add ``visual.`` for a whole CLIP)."""
        return visual_state(self.backbone, self.res5, self.attention_pool)


def part_configs(visual: Mapping[str, Any], embed_dim: int, frozen_stages: int = 2) -> dict[str, dict]:
    """Return the configs of the parts that hold a CLIP ResNet.

    Args:
        visual: ``vision_cfg`` of an open_clip configuration: layers, width, image_size, optionally head_width.
        embed_dim: D, its ``embed_dim``.
        frozen_stages: See :class:`CLIPResNetC4`.

    Returns:
        ``backbone``, ``roi_extractor``, ``res5`` and ``attention_pool``, for :class:`RegionEncoder`; a detector takes
        them as backbone, bbox_roi_extractor, shared_head and the head's attention_pool.
    """
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


def describe(visual: ModifiedResNet) -> tuple[dict[str, Any], int]:
    """Return (``vision_cfg``, ``embed_dim``) of a built tower, as :func:`part_configs` takes them."""
    width = visual.conv3.out_channels
    layers = [len(getattr(visual, f"layer{i}")) for i in (1, 2, 3, 4)]
    head_width = width * 32 // visual.attnpool.num_heads
    grid = round((len(visual.attnpool.positional_embedding) - 1) ** 0.5)
    cfg = dict(layers=layers, width=width, image_size=grid * 32, head_width=head_width)
    return cfg, visual.attnpool.c_proj.out_features


def load_visual(state: Mapping[str, Tensor], backbone: nn.Module, res5: nn.Module, attention_pool: nn.Module) -> None:
    """Fill the three parts from ``state``, whose keys are those of ``ModifiedResNet`` (no ``visual.`` prefix).

    Raises:
        RuntimeError: A key is missing or left over, or a shape differs; the message lists them.
    """
    rest = {k: v for k, v in state.items() if not k.startswith((_RES5, _POOL))}
    backbone.load_state_dict(rest)
    res5.load_state_dict({k: v for k, v in state.items() if k.startswith(_RES5)})
    attention_pool.load_state_dict({k.removeprefix(_POOL): v for k, v in state.items() if k.startswith(_POOL)})


def visual_state(backbone: nn.Module, res5: nn.Module, attention_pool: nn.Module) -> dict[str, Tensor]:
    """Return the parts' weights under the keys of ``ModifiedResNet``; the inverse of :func:`load_visual`."""
    pool = {_POOL + k: v for k, v in attention_pool.state_dict().items()}
    return {**backbone.state_dict(), **res5.state_dict(), **pool}
