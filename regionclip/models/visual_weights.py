"""Move the weights of a CLIP ResNet between open_clip's one module and the three parts of a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

# open_clip's prefixes of what runs on regions; the rest is the backbone.
_RES5, _POOL = "layer4.", "attnpool."


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
        roi_extractor=dict(
            type="SingleRoIExtractor", roi_layer=roi_layer, out_channels=width * 16, featmap_strides=[16]
        ),
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
