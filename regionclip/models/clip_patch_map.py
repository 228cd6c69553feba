"""CLIPs other than ResNets, a vision transformer or a ConvNeXt, as a backbone that gives a map of CLIP's embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from open_clip.model import _build_vision_tower
from timm.layers import build_rotary_pos_embed
from torch import Tensor, nn


@MODELS.register_module()
class CLIPPatchMap(BaseModule):
    """An image tower of open_clip, whole and under its own names, that embeds every place of a picture of any size.

    Transformers as CLIPSelf reads them (its ``encode_dense``): blocks as usual, but the last one without attention,
    each token its own value; final norm and projection on every token but the class's. Learned positions are resized
    bicubically, rotary ones made for the grid, their side spanning that of the tower's training.

    A ConvNeXt: the map of its last stage, with its head's norm and projection, which its training applied to the mean
    of all places, at each.

    Args:
        embed_dim: D of the CLIP.
        vision_cfg: ``vision_cfg`` of open_clip's configuration.
        quick_gelu: As there.
        frozen_stages: What does not train: 0 nothing, 1 patches' and positions' embeddings (a ConvNeXt's stem), 2 to 4
            also one to three quarters of the blocks (of its first three stages), 5 everything.
        out_blocks: Blocks of a transformer whose outputs are given too, before the map of embeddings.
        embeddings: Whether the map of embeddings is given.
        tower: A built tower to share instead of a new one; the first three are not needed.
    """

    def __init__(
        self,
        embed_dim: int = 0,
        vision_cfg: dict[str, Any] | None = None,
        quick_gelu: bool = False,
        frozen_stages: int = 0,
        out_blocks: Sequence[int] = (),
        embeddings: bool = True,
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.tower = _build_vision_tower(embed_dim, dict(vision_cfg or {}), quick_gelu) if tower is None else tower
        trunk = getattr(self.tower, "trunk", None)
        self._family = _OpenClipViT if trunk is None else _Eva if hasattr(trunk, "blocks") else _ConvNeXt
        self.stride, self.width = self._family.sizes(self.tower)
        self.embed_dim, self.blocks = self._family.embed_dim(self.tower), self._family.blocks(self.tower)
        for part in [self._family.unused(self.tower), *self._family.levels(self.tower)[:frozen_stages]]:
            for module in part:
                module.requires_grad_(False)
        if frozen_stages > 4:
            self.requires_grad_(False)
        self.out_blocks, self.embeddings = tuple(out_blocks), embeddings

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map normalised RGB images (B, 3, H, W) to places of ``stride`` pixels.

        Returns:
            The outputs of ``out_blocks``, (B, width, h, w) each, the last block's in its form without attention; then
            embeddings (B, D, h, w), each of norm 1.
        """
        inner, embeddings = self._family.run(self.tower, images, self.out_blocks)
        # RoIAlign of it takes boxes of its own precision, and in half precision those are wrong by pixels.
        return (*inner, F.normalize(embeddings.float(), dim=1)) if self.embeddings else tuple(inner)


class _OpenClipViT:
    """open_clip's ``VisionTransformer``: OpenAI's, LAION's and others."""

    @staticmethod
    def sizes(tower: nn.Module) -> tuple[int, int]:
        """Return stride and width."""
        return tower.patch_size[0], tower.conv1.out_channels

    @staticmethod
    def embed_dim(tower: nn.Module) -> int:
        """Return D."""
        return tower.output_dim

    @staticmethod
    def blocks(tower: nn.Module) -> int:
        """Return how many blocks there are."""
        return len(tower.transformer.resblocks)

    @staticmethod
    def unused(tower: nn.Module) -> list[nn.Module]:
        """Return what gets no gradient: queries and keys of the last block share a parameter with the values."""
        return []

    @staticmethod
    def levels(tower: nn.Module) -> list[list[Any]]:
        """Return what each level of freezing adds."""
        stem = [tower.conv1, tower.class_embedding, tower.positional_embedding, tower.ln_pre]
        return [stem, *_quarters(tower.transformer.resblocks)]

    @staticmethod
    def run(tower: nn.Module, images: Tensor, wanted: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Return maps of the wanted blocks, and the embeddings before they are normalised."""
        tokens, grid = _flat(tower.conv1(images))
        positions = _resized(tower.positional_embedding[None], tower.grid_size, grid)
        first = tower.class_embedding.expand(len(tokens), 1, -1)
        tokens, maps = tower.ln_pre(torch.cat([first, tokens], dim=1) + positions), []
        *blocks, last = tower.transformer.resblocks
        for number, block in enumerate(blocks):
            tokens = block(tokens)
            if number in wanted:
                maps.append(_map(tokens, grid))
        weight, bias = (part.chunk(3)[2] for part in (last.attn.in_proj_weight, last.attn.in_proj_bias))
        values = last.attn.out_proj(F.linear(last.ln_1(tokens), weight, bias))
        tokens = tokens + last.ls_1(values)
        tokens = tokens + last.ls_2(last.mlp(last.ln_2(tokens)))
        maps += [_map(tokens, grid)] if len(blocks) in wanted else []
        return maps, _map(tower.ln_post(tokens) @ tower.proj, grid)


class _Eva:
    """timm's ``Eva`` in open_clip's ``TimmModel``: EVA-CLIP and EVA02-CLIP."""

    @staticmethod
    def sizes(tower: nn.Module) -> tuple[int, int]:
        """Return stride and width."""
        return tower.trunk.patch_embed.patch_size[0], tower.trunk.embed_dim

    @staticmethod
    def embed_dim(tower: nn.Module) -> int:
        """Return D."""
        return _last_linear(tower).out_features

    @staticmethod
    def blocks(tower: nn.Module) -> int:
        """Return how many blocks there are."""
        return len(tower.trunk.blocks)

    @staticmethod
    def unused(tower: nn.Module) -> list[nn.Module]:
        """Return what gets no gradient: queries and keys of the last block."""
        attention = tower.trunk.blocks[-1].attn
        return [] if attention.qkv is not None else [attention.q_proj, attention.k_proj]

    @staticmethod
    def levels(tower: nn.Module) -> list[list[Any]]:
        """Return what each level of freezing adds."""
        trunk = tower.trunk
        return [[trunk.patch_embed, trunk.cls_token, trunk.pos_embed, trunk.norm_pre], *_quarters(trunk.blocks)]

    @staticmethod
    def run(tower: nn.Module, images: Tensor, wanted: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Return maps of the wanted blocks, and the embeddings before they are normalised."""
        trunk = tower.trunk
        # Not by its own forward, which wants pictures of the training's size.
        tokens, grid = _flat(trunk.patch_embed.proj(images))
        tokens = torch.cat([trunk.cls_token.expand(len(tokens), -1, -1), trunk.patch_embed.norm(tokens)], dim=1)
        tokens = trunk.norm_pre(tokens + _resized(trunk.pos_embed, trunk.patch_embed.grid_size, grid))
        maps, rotary = [], _rotary(trunk.rope, grid)
        *blocks, last = trunk.blocks
        for number, block in enumerate(blocks):
            tokens = block(tokens, rope=rotary)
            if number in wanted:
                maps.append(_map(tokens, grid))
        attention, inner = last.attn, last.norm1(tokens)
        if attention.qkv is None:
            values = attention.v_proj(inner)
        else:
            values = F.linear(inner, attention.qkv.weight.chunk(3)[2], attention.v_bias)
        tokens = tokens + _scaled(attention.proj(attention.norm(values)), last.gamma_1)
        tokens = tokens + _scaled(last.mlp(last.norm2(tokens)), last.gamma_2)
        maps += [_map(tokens, grid)] if len(blocks) in wanted else []
        return maps, _map(tower.head(trunk.head(trunk.fc_norm(trunk.norm(tokens)))), grid)


class _ConvNeXt:
    """timm's ``ConvNeXt`` in open_clip's ``TimmModel``."""

    @staticmethod
    def sizes(tower: nn.Module) -> tuple[int, int]:
        """Return stride and width."""
        return tower.trunk.feature_info[-1]["reduction"], tower.trunk.num_features

    @staticmethod
    def embed_dim(tower: nn.Module) -> int:
        """Return D."""
        return _last_linear(tower).out_features

    @staticmethod
    def blocks(tower: nn.Module) -> int:
        """Return that it has no blocks of one size."""
        return 0

    @staticmethod
    def unused(tower: nn.Module) -> list[nn.Module]:
        """Return what gets no gradient: nothing."""
        return []

    @staticmethod
    def levels(tower: nn.Module) -> list[list[Any]]:
        """Return what each level of freezing adds."""
        return [[tower.trunk.stem], *([stage] for stage in tower.trunk.stages[:-1])]

    @staticmethod
    def run(tower: nn.Module, images: Tensor, wanted: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Return the embeddings before they are normalised; its stages are not of one size, so none are wanted."""
        trunk = tower.trunk
        places = trunk.stages(trunk.stem(images))
        head, grid = trunk.head, places.shape[-2:]
        # timm's norms, convolutions' or tokens', take the channels first here.
        tokens = head.norm(trunk.norm_pre(places)).flatten(2).transpose(1, 2)
        tokens = tower.head(head.fc(head.drop(head.pre_logits(tokens))))
        return [], tokens.transpose(1, 2).unflatten(2, grid)


def _last_linear(tower: nn.Module) -> nn.Linear:
    return [module for module in tower.modules() if isinstance(module, nn.Linear)][-1]


def _quarters(blocks: nn.ModuleList) -> list[list[nn.Module]]:
    """Return the first three quarters of the blocks."""
    ends = [round(len(blocks) * share / 4) for share in range(4)]
    return [list(blocks[start:end]) for start, end in zip(ends, ends[1:], strict=False)]


def _flat(places: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return the tokens (B, h * w, C) of a map (B, C, h, w), and its sides."""
    return places.flatten(2).transpose(1, 2), tuple(places.shape[-2:])


def _map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the map (B, C, h, w) of tokens (B, 1 + h * w, C), without the class's."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, grid)


def _resized(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return learned positions (1, 1 + n, C) for another grid; the class token's stays.

    timm's own function smooths, which the official code does not.
    """
    if tuple(old) == tuple(new):
        return positions
    places = positions[:, 1:].transpose(1, 2).unflatten(2, old).float()
    places = F.interpolate(places, size=new, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], places.flatten(2).transpose(1, 2).to(positions)], dim=1)


def _rotary(rope: nn.Module | None, grid: tuple[int, int]) -> Tensor | None:
    """Return sines and cosines (h * w, 2C / heads) for a grid; the module itself keeps those of one."""
    if rope is None:
        return None
    settings = {name: getattr(rope, name) for name in ("in_pixels", "ref_feat_shape", "grid_offset", "grid_indexing")}
    tables = build_rotary_pos_embed(grid, bands=rope.bands, rotate_half=rope.rotate_half, **settings)
    return torch.cat(tables, dim=-1)


def _scaled(values: Tensor, scale: Tensor | None) -> Tensor:
    return values if scale is None else values * scale
