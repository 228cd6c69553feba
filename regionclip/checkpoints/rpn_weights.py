"""Detectron2's proposal networks (R50-C4, R50-FPN, R50-FPN of the LSJ recipe) under MMDetection's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torchvision.models import resnet50

from regionclip.checkpoints.key_maps import RPN_C4, RPN_FPN, KeyMap

_MAPS: dict[str, KeyMap] = {"c4": RPN_C4, "fpn": RPN_FPN, "fpn_lsj": RPN_FPN}


@dataclass(frozen=True, eq=False)
class RpnWeights:
    """The weights of a proposal network.

    Attributes:
        architecture: ``c4`` (stride 16, 15 anchors), ``fpn`` (five levels, 3 anchors) or ``fpn_lsj`` (the same with
            norms in the pyramid and two convolutions in the head).
        state: ``backbone.*``, ``neck.*`` (FPN only) and ``rpn_head.*`` as MMDetection's ``RPN`` names them. Anchors
            are in Detectron2's order: MMDetection needs ``scale_major=False``.
    """

    architecture: str
    state: dict[str, Tensor]


def rpn_architecture(part: Mapping[str, Tensor]) -> str:
    """Return the architecture of a proposal network in Detectron2's names (see `RpnWeights`)."""
    if "backbone.fpn_lateral2.norm.weight" in part:
        return "fpn_lsj"
    return "fpn" if any(key.startswith("backbone.bottom_up.") for key in part) else "c4"


@cache
def rpn_shapes(architecture: str) -> dict[str, Tensor]:
    """Return the network's state dict without its content (tensors on the meta device), in Detectron2's names."""
    with torch.device("meta"):
        trunk = {f"backbone.{key}": value for key, value in resnet50().state_dict().items()}
        dropped = ("backbone.fc.", "backbone.layer4.") if architecture == "c4" else ("backbone.fc.",)
        ours = {key: value for key, value in trunk.items() if not key.startswith(dropped)}
        if architecture == "c4":
            ours |= _head(1024, anchors=15)
        else:
            ours |= _neck(normed=architecture == "fpn_lsj")
            ours |= _head(256, anchors=3, convs=2 if architecture == "fpn_lsj" else 1)
    return _MAPS[architecture].inverse().apply(ours)[0]


def _neck(normed: bool) -> dict[str, Tensor]:
    """Shapes of the pyramid, by MMDetection's names."""
    shapes: dict[str, Tensor] = {}
    for level in range(4):
        for name, channels, kernel in (("lateral_convs", 256 << level, 1), ("fpn_convs", 256, 3)):
            prefix = f"neck.{name}.{level}"
            shapes[f"{prefix}.conv.weight"] = torch.empty(256, channels, kernel, kernel)
            if normed:
                norm = torch.nn.BatchNorm2d(256).state_dict()
                shapes |= {f"{prefix}.bn.{key}": value for key, value in norm.items()}
            else:
                shapes[f"{prefix}.conv.bias"] = torch.empty(256)
    return shapes


def _head(channels: int, anchors: int, convs: int = 1) -> dict[str, Tensor]:
    """Shapes of the head, by MMDetection's names."""
    names = ["rpn_conv"] if convs == 1 else [f"rpn_conv.{number}.conv" for number in range(convs)]
    layers = {name: (channels, 3) for name in names} | {"rpn_cls": (anchors, 1), "rpn_reg": (4 * anchors, 1)}
    shapes: dict[str, Tensor] = {}
    for name, (out, kernel) in layers.items():
        shapes[f"rpn_head.{name}.weight"] = torch.empty(out, channels, kernel, kernel)
        shapes[f"rpn_head.{name}.bias"] = torch.empty(out)
    return shapes


def read_rpn(part: Mapping[str, Tensor]) -> RpnWeights:
    """Rename a proposal network from Detectron2's names, which `rpn_shapes` must cover."""
    architecture = rpn_architecture(part)
    return RpnWeights(architecture, _MAPS[architecture].apply(part)[0])
