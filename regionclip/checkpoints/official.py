"""Official checkpoints (RegionCLIP, proposal networks, CLIPs) in the names used here; what stages import."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.containers import Container, read_container
from regionclip.checkpoints.key_maps import (
    HEADS,
    MODIFIED_RESNET_TO_DETECTOR,
    OFFICIAL_PARTS,
    RPN_C4,
    RPN_FPN,
    KeyMap,
)
from regionclip.checkpoints.kinds import KINDS, clip_config, clip_shapes, require_architecture, require_kind
from regionclip.checkpoints.loading import require_fit
from regionclip.checkpoints.mmengine_files import read
from regionclip.errors import InputError
from regionclip.files import sha256_file

# A part in words, and the kind of file to look for it in.
_WORDS = {
    "student": ("CLIP image tower", "pretrained"),
    "teacher": ("teacher", "pretrained"),
    "text": ("text encoder", "pretrained"),
    "rpn": ("proposal network", "rpn"),
    "heads": ("box predictor", "finetuned"),
}
# Begins of keys that nothing here needs, and why.
_UNUSED = {
    r"(input_resolution|context_length|vocab_size)$": "a size that OpenAI's archives keep with the weights",
    r"visual\.(blocks\.\d+\.attn\.)?rope\.freqs_(cos|sin)$": "rotary tables, which are computed",
    r"original\.": "what embedded the crops for CLIPSelf's loss",
    r"teacher\.logit_scale$": "the teacher's scale; matching has a temperature of its own",
    r"(offline_)?pixel_(mean|std)$": "normalisation, which the configs hold",
    r".*anchor_generator\.cell_anchors\.\d+$": "anchors, which the configs define",
}
_UNUSED_OF_RPN = _UNUSED | {r"roi_heads\.": "the detection head that the proposal network was trained with"}
# What Detectron2's frozen batch norm, which counts nothing, lacks and others have.
_BATCH_COUNTS = r".*\.num_batches_tracked$"
_CLASSIFIER = "roi_head.bbox_head.fc_cls.embeddings"
BOX, _MASK = "roi_heads.box_predictor", "roi_heads.mask_head"
_RPN_MAPS: dict[str, KeyMap] = {"c4": RPN_C4, "fpn": RPN_FPN, "fpn_lsj": RPN_FPN}


@dataclass(frozen=True, eq=False)
class OfficialCheckpoint:
    """A checkpoint whose every tensor is accounted for; made by `read_official` or `from_state`.

    Asked for a part that the file has not, each method raises an InputError that says what it is.

    Attributes:
        path: The file.
        kind: A key of `kinds.KINDS`.
        architecture: One of `kinds.ARCHITECTURES`; None for a proposal network.
        sha256: Of the file, in hex; None for a state dict in memory.
        state: The tensors under the file's own names.
        parts: Tensors by part (student, teacher, text, teacher_text, rpn, heads, scale) and name; floats are float32.
        unused: Keys that nothing needs, each with the reason.
    """

    path: Path
    kind: str
    architecture: str | None
    sha256: str | None
    state: Mapping[str, Tensor]
    parts: Mapping[str, Mapping[str, Tensor]]
    unused: Mapping[str, str]

    @classmethod
    def from_state(
        cls, state: Mapping[str, Tensor], path: str | Path, kind: str | None = None, sha256: str | None = None
    ) -> OfficialCheckpoint:
        """Sort the tensors of a state dict into parts; without a wanted kind, of whatever it is.

        Raises:
            InputError: It is something else than wanted, its architecture is unknown, or a tensor is missing, left
                over or of another shape.
        """
        found = require_kind(state, kind, path)
        reasons = _UNUSED_OF_RPN if found == "rpn" else _UNUSED
        unused = {key: why for key in state for pattern, why in reasons.items() if re.match(pattern, key)}
        # OpenAI's weights may be half precision.
        single = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        used = {key: value for key, value in single.items() if key not in unused}
        # A proposal network keeps the prefix that it has inside other files where it was cut out of one.
        offline = any(key.startswith("offline_") for key in used)
        table = OFFICIAL_PARTS if offline else KINDS[found].table
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in table.apply(used).items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        towers = {part: require_architecture(parts[part], path) for part in ("student", "teacher") if part in parts}
        shapes = {part: _shapes(part, parts.get(part, {}), towers) for part in {*KINDS[found].required, *parts}}
        named = {f"{part}.{name}": value for part in shapes for name, value in shapes[part].items()}
        mend = f"fetch {KINDS[found].example} or its like again"
        require_fit(table.inverse().apply(named), used, path, _BATCH_COUNTS, mend)
        return cls(Path(path), found, towers.get("student"), sha256, dict(state), parts, unused)

    def clip_config(self, teacher: bool = False) -> dict[str, Any]:
        """Return open_clip's configuration of the student or the teacher (embed_dim, vision_cfg and so on)."""
        part = "teacher" if teacher else "student"
        return copy.deepcopy(clip_config(require_architecture(self._part(part), self.path)))

    def visual(self, teacher: bool = False) -> dict[str, Tensor]:
        """Return the image tower by open_clip's names."""
        return _with_batch_counts(self._part("teacher" if teacher else "student"))

    def text(self, teacher: bool = False) -> dict[str, Tensor]:
        """Return the text encoder by open_clip's names; a teacher without one of its own shares the student's."""
        return dict(self._part("teacher_text" if teacher and "teacher_text" in self.parts else "text"))

    def clip(self, teacher: bool = False) -> dict[str, Tensor]:
        """Return a whole CLIP by open_clip's names.

        The logit scale is the file's, or log(100), CLIP's and RegionCLIP's, where it has none.
        """
        visual = {f"visual.{name}": value for name, value in self.visual(teacher).items()}
        scale = self.parts.get("scale", {"logit_scale": torch.tensor(math.log(100.0))})
        return {**visual, **self.text(teacher), **scale}

    @property
    def rpn_architecture(self) -> str:
        """The proposal network's: ``c4`` (stride 16, 15 anchors), ``fpn`` (five levels, 3 anchors) or ``fpn_lsj``.

        The last one has norms in the pyramid and two convolutions in the head.
        """
        return _rpn_architecture(self._part("rpn"))

    def rpn(self) -> dict[str, Tensor]:
        """Return the proposal network as MMDetection's ``RPN`` names it: ``backbone``, ``neck`` (FPN), ``rpn_head``.

        Anchors are in Detectron2's order: MMDetection needs ``scale_major=False``.
        """
        return _with_batch_counts(_RPN_MAPS[self.rpn_architecture].apply(self._part("rpn")))

    def detector(self) -> dict[str, Tensor]:
        """Return the open-vocabulary Fast R-CNN by the names of ``models/configs/ov_fast_rcnn_clip_rn50_c4.py``.

        The classifier holds the training embeddings; the mask head is there where the file has one.

        Raises:
            InputError: Its background is no row of zeros.
        """
        heads = self._part("heads")
        if heads[f"{BOX}.cls_bg_score.weight"].any():
            problem = "the background's embedding is not zero; the classifier here has a background logit of 0"
            mend = "give a detector that the official code trained with its text embeddings"
            raise InputError(problem, file=self.path, key=f"{BOX}.cls_bg_score.weight", mend=mend)
        return {**MODIFIED_RESNET_TO_DETECTOR.apply(self.visual()), **HEADS.apply(heads)}

    def _part(self, part: str) -> Mapping[str, Tensor]:
        if part not in self.parts:
            words, kind = _WORDS[part]
            problem = f"this is {KINDS[self.kind].words}; wanted one with a {words}"
            raise InputError(problem, file=self.path, mend=f"give a file such as {KINDS[kind].example}")
        return self.parts[part]


def read_official(path: str | Path, kind: str | None = None) -> OfficialCheckpoint:
    """Read an official checkpoint, a proposal network of Detectron2, a CLIP ResNet, an EVA02-CLIP, or one of ours.

    Args:
        path: ``.pth``, ``.pt``, ``.bin`` or ``.safetensors``; no code of it is run.
        kind: What is wanted, a key of `kinds.KINDS`; None takes whatever it is.

    Raises:
        InputError: The file is damaged, something else than wanted, of unknown architecture, or not whole.
    """
    container = read_container(path)
    if isinstance(container, Tensor):
        wanted = KINDS[kind].words if kind else "a checkpoint"
        problem = f"this is one tensor of shape {tuple(container.shape)}, such as text embeddings; wanted {wanted}"
        mend = "turn text embeddings into a text bank: regionclip convert FILE --to text-bank"
        raise InputError(problem, file=path, mend=mend)
    return OfficialCheckpoint.from_state(container.tensors, path, kind, sha256_file(path))


def clip_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a CLIP: a CLIP folder, a pretrained RegionCLIP, a CLIP ResNet of OpenAI or open_clip, or an EVA02-CLIP.

    Returns:
        open_clip's model configuration and state dict.

    Raises:
        InputError: The file is none of these, or is not whole.
    """
    if Path(path).is_dir():
        folder = ClipFolder.open(path)
        return folder.model_cfg, folder.state_dict()
    official = read_official(path)
    return official.clip_config(), official.clip()


def rpn_weights(path: str | Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read a proposal network: one that the stage ``rpn`` wrote, or the one in an official or Detectron2 file.

    Returns:
        The state dict by MMDetection's names, and the names of the classes it was trained on, where the file says.

    Raises:
        InputError: The file holds no proposal network, or is not whole.
    """
    if _is_ours(path, ("rpn_head.", "bbox_head.")):
        state, meta = read(path)
        return state, tuple(meta["classes"])
    return read_official(path).rpn(), ()


def detector_weights(path: str | Path, embeddings: Tensor) -> dict[str, Tensor]:
    """Read a detector: one that the stage ``finetune`` wrote, or a fine-tuned official one.

    Args:
        path: The file.
        embeddings: (K, D) of the training classes. They take the place of the file's own, which the official code
            overwrites with those of its embedding file too.

    Returns:
        The state dict by MMDetection's names.

    Raises:
        InputError: The file holds no detector, or is not whole.
    """
    state = read(path)[0] if _is_ours(path, ("roi_head.",)) else read_official(path, "finetuned").detector()
    return {**state, _CLASSIFIER: embeddings}


def _is_ours(path: str | Path, prefixes: tuple[str, ...]) -> bool:
    container = read_container(path)
    return isinstance(container, Container) and any(key.startswith(prefixes) for key in container.tensors)


def _with_batch_counts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add what open_clip's and MMDetection's batch norms count and Detectron2's frozen one does not."""
    names = (key.removesuffix("running_var") + "num_batches_tracked" for key in state if key.endswith("running_var"))
    return {**{name: torch.tensor(0) for name in names}, **state}


def _shapes(part: str, found: Mapping[str, Tensor], architectures: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors (on the meta device) that a part must have, by its names; ``found`` is what the file has."""
    if part == "rpn":
        return rpn_shapes(_rpn_architecture(found))
    clip = clip_shapes(architectures["teacher" if part.startswith("teacher") else "student"])
    if part in ("student", "teacher"):
        return {name.removeprefix("visual."): value for name, value in clip.items() if name.startswith("visual.")}
    if part in ("text", "teacher_text"):
        return {name: value for name, value in clip.items() if not name.startswith(("visual.", "logit_scale"))}
    if part == "scale":
        return {"logit_scale": clip["logit_scale"]}
    embed_dim, channels = clip["visual.attnpool.c_proj.weight"].shape
    # A box predictor with any number of classes; test classes and mask head where there are any of their tensors.
    shapes: dict[str, tuple[int, ...]] = {
        f"{BOX}.cls_bg_score.weight": (1, embed_dim),
        f"{BOX}.bbox_pred.weight": (4, embed_dim),
        f"{BOX}.bbox_pred.bias": (4,),
    }
    for name in ("cls_score", "test_cls_score"):
        key = f"{BOX}.{name}.weight"
        if key in found or name == "cls_score":
            shapes[key] = (len(found[key]) if key in found and found[key].ndim else 1, embed_dim)
    if any(key.startswith(_MASK) for key in found):
        shapes |= {
            f"{_MASK}.deconv.weight": (channels, 256, 2, 2),
            f"{_MASK}.deconv.bias": (256,),
            f"{_MASK}.predictor.weight": (1, 256, 1, 1),
            f"{_MASK}.predictor.bias": (1,),
        }
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _rpn_architecture(part: Mapping[str, Tensor]) -> str:
    if "backbone.fpn_lateral2.norm.weight" in part:
        return "fpn_lsj"
    return "fpn" if any(key.startswith("backbone.bottom_up.") for key in part) else "c4"


@cache
def rpn_shapes(architecture: str) -> dict[str, Tensor]:
    """Return a proposal network's state dict without its content (on the meta device), in Detectron2's names."""
    # Its import is slow, and most files hold no proposal network.
    from mmdet.models import FPN, ResNet, RPNHead

    pyramid, lsj = architecture != "c4", architecture == "fpn_lsj"
    scales = [8] if pyramid else [2, 4, 8, 16, 32]
    anchors = {"type": "AnchorGenerator", "scales": scales, "ratios": [0.5, 1.0, 2.0], "strides": [16]}
    stages = 4 if pyramid else 3
    width = 256 if pyramid else 1024
    with torch.device("meta"):
        parts = {
            "backbone": ResNet(50, num_stages=stages, strides=(1,) * stages, dilations=(1,) * stages, out_indices=(0,)),
            "rpn_head": RPNHead(width, feat_channels=width, num_convs=1 + lsj, anchor_generator=anchors),
        }
        if pyramid:
            norm = {"type": "BN"} if lsj else None
            parts["neck"] = FPN([256, 512, 1024, 2048], width, num_outs=4, norm_cfg=norm)
        network = nn.ModuleDict(parts).state_dict()
    return _RPN_MAPS[architecture].inverse().apply(network)
