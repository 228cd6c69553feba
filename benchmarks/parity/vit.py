"""Dense features of vision transformers, by the official CLIPSelf code: runs ``vit_openai`` and ``vit_eva``."""

from __future__ import annotations

import re
from functools import partial

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU, VisionTransformer
from timm.models.eva import Eva
from torch import Tensor, nn

from benchmarks.parity.golden_folder import Arrays, GoldenFolder
from regionclip.checkpoints.key_maps import EVA
from regionclip.checkpoints.loading import load_strictly
from regionclip.errors import InputError
from regionclip.models.region_encoder import RegionEncoder

_HEADS = 4  # what OpenAI's weights do not tell, and the folder's README does


@torch.no_grad()
def run(golden: GoldenFolder, family: str) -> Arrays:
    """Return every documented output of ``vit_<family>``, whose file holds weights, pictures and boxes too.

    Raises:
        InputError: There is no such file, or its weights are those of another network.
    """
    file = golden.path / f"vit_{family}.npz"
    given = golden.reference(f"vit_{family}")
    if given is None:
        raise InputError("the file is missing", file=file, mend="give a folder of golden values")
    state = {key.removeprefix("state|"): torch.from_numpy(value) for key, value in given.items() if "state|" in key}
    visual = _eva(state) if family == "eva" else _openai(state)
    load_strictly(
        visual, {f"trunk.{key}": v for key, v in EVA.apply(state).items()} if family == "eva" else state, file
    )
    encoder, arrays = RegionEncoder.from_clip(visual.eval()).eval(), {}
    stride = encoder.backbone.stride
    for key in given:
        if match := re.fullmatch(r"img(\d+)", key):
            size, images = match[1], torch.from_numpy(given[key])
            features = encoder.forward_features(images)
            # Boxes are shares of the map.
            sides = torch.tensor([*features.shape[:1:-1]] * 2) * stride
            regions = encoder.encode(features, [torch.from_numpy(given["boxes"]) * sides])
            arrays |= {f"dense_{size}": features.numpy(), f"roi_{size}": regions.numpy()}
            if visual.image_size[0] == images.shape[-1]:
                arrays[f"image_{size}"] = visual(images).numpy()
    return arrays


def _openai(state: dict[str, Tensor]) -> nn.Module:
    (width, _, _, patch), blocks = state["conv1.weight"].shape, _blocks(state)
    grid = round((len(state["positional_embedding"]) - 1) ** 0.5)
    ratio = len(state["transformer.resblocks.0.mlp.c_fc.weight"]) / width
    out = state["proj"].shape[1]
    sizes = (grid * patch, patch, width, blocks, _HEADS, ratio)
    return VisionTransformer(*sizes, output_dim=out, act_layer=QuickGELU)


def _eva(state: dict[str, Tensor]) -> nn.Module:
    width, _, _, patch = state["patch_embed.proj.weight"].shape
    grid = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    trunk = Eva(
        img_size=grid * patch,
        patch_size=patch,
        embed_dim=width,
        depth=_blocks(state),
        num_heads=width // state["rope.freqs_cos"].shape[1],
        # Between the hidden width and the next whole one.
        mlp_ratio=(len(state["blocks.0.mlp.w1.weight"]) + 0.5) / width,
        num_classes=len(state["head.weight"]),
        global_pool="token",
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=16,
    )
    # open_clip builds the networks that timm has a name for; this one is smaller.
    visual = TimmModel.__new__(TimmModel)
    nn.Module.__init__(visual)
    visual.trunk, visual.head, visual.image_size = trunk, nn.Sequential(), (grid * patch,) * 2
    return visual


def _blocks(state: dict[str, Tensor]) -> int:
    return 1 + max(int(match[1]) for key in state if (match := re.search(r"blocks\.(\d+)\.", key)))
