"""Official state dicts from the official key lists, with one number a tensor that tells which it is."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

KEYS = Path(__file__).parent / "official_keys.json.gz"
State = dict[str, Tensor]


def _fill(shapes: dict[str, list[int]]) -> State:
    """Tensors that need no memory: each is one number, made of its key, seen through the shape."""
    numbers = {key: zlib.crc32(key.encode()) / 2**32 + 0.5 for key in shapes}
    return {
        key: torch.tensor(0.0 if "cls_bg_score" in key else numbers[key]).expand(shape) for key, shape in shapes.items()
    }


@pytest.fixture(scope="session")
def official_keys() -> dict[str, dict[str, list[int]]]:
    """Keys and shapes of the official models, by run: pretrain, ft_coco, zs_coco_rpn, zs_lvis_gt, text."""
    return json.loads(gzip.decompress(KEYS.read_bytes()))


@pytest.fixture(scope="session")
def official(official_keys: dict[str, dict[str, list[int]]]) -> Callable[[str], State]:
    """Gives the state dict of a run of the official code (RN50)."""
    return lambda run: _fill(official_keys[run])


@pytest.fixture(scope="session")
def of_architecture() -> Callable[[str], State]:
    """Gives an official student and text encoder of an architecture, renamed from open_clip's model by hand."""

    def make(architecture: str) -> State:
        with torch.device("meta"):
            config = open_clip.get_model_config(architecture)
            shapes = {key: list(value.shape) for key, value in open_clip.CLIP(**config).state_dict().items()}
        kept = {key: shape for key, shape in shapes.items() if not re.search("num_batches|logit_scale", key)}
        return _fill(
            {
                f"backbone.{key[7:]}" if key.startswith("visual.") else f"lang_encoder.{key}": shape
                for key, shape in kept.items()
            }
        )

    return make


@pytest.fixture(scope="session")
def rpn(official_keys: dict[str, dict[str, list[int]]]) -> Callable[[str], State]:
    """Gives a Detectron2 proposal network: c4 or fpn as in the official lists, or fpn_lsj, made of fpn."""

    def make(architecture: str) -> State:
        run = "ft_coco" if architecture == "c4" else "pretrain"
        shapes = {
            key.removeprefix("offline_"): shape
            for key, shape in official_keys[run].items()
            if key.startswith("offline_")
        }
        return _fill(shapes if architecture != "fpn_lsj" else _lsj(shapes))

    return make


def _lsj(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """Norms for the pyramid's biases, and two convolutions in the head (Detectron2: CONV_DIMS [-1, -1])."""
    made: dict[str, list[int]] = {}
    for key, shape in shapes.items():
        if ".fpn_" in key and key.endswith(".bias"):
            norm = key.removesuffix("bias") + "norm."
            made |= {norm + name: shape for name in ("weight", "bias", "running_mean", "running_var")}
            made[f"{norm}num_batches_tracked"] = []
        elif ".rpn_head.conv." in key:
            made |= {key.replace(".conv.", f".conv.conv{number}."): shape for number in (0, 1)}
        else:
            made[key] = shape
    return made
