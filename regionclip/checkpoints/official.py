"""Official checkpoints: RegionCLIP's files, its proposal networks and CLIP ResNets, read into the names used here."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regionclip.checkpoints.containers import read_container
from regionclip.checkpoints.key_maps import (
    CLIP_PARTS,
    HEADS,
    MODIFIED_RESNET_TO_DETECTOR,
    OFFICIAL_PARTS,
    PRETRAINER_PARTS,
    RPN_PARTS,
    split,
)
from regionclip.checkpoints.kinds import KINDS, clip_config, require_architecture, require_kind
from regionclip.checkpoints.loading import compare
from regionclip.checkpoints.official_shapes import BATCH_COUNTS, unused_keys, wanted_shapes
from regionclip.checkpoints.rpn_weights import RpnWeights, read_rpn
from regionclip.errors import InputError
from regionclip.files import sha256_file

_PARTS = {"rpn": RPN_PARTS, "clip": CLIP_PARTS, "pretraining": PRETRAINER_PARTS}
# A part in words, and the kind of file to look for it in.
_WORDS = {
    "student": ("CLIP image tower", "pretrained"),
    "teacher": ("teacher", "pretrained"),
    "text": ("text encoder", "pretrained"),
    "rpn": ("proposal network", "rpn"),
    "heads": ("box predictor", "finetuned"),
}
_BOX = "roi_heads.box_predictor"


@dataclass(frozen=True, eq=False)
class OfficialCheckpoint:
    """A checkpoint whose every tensor is accounted for; made by `read_official` or `from_state`.

    Attributes:
        path: The file.
        kind: A key of `kinds.KINDS`.
        architecture: ``RN50``, ``RN101`` or ``RN50x4``; None for a proposal network.
        sha256: Of the file, in hex; None for a state dict in memory.
        state: The tensors under the file's own names.
        parts: Tensors by part (student, teacher, text, teacher_text, rpn, heads, scale) and name; floats are float32.
        unused: Keys that nothing needs, each with the reason.
        beside: What else the file holds, such as an optimizer's state.
    """

    path: Path
    kind: str
    architecture: str | None
    sha256: str | None
    state: Mapping[str, Tensor]
    parts: Mapping[str, Mapping[str, Tensor]]
    unused: Mapping[str, str]
    beside: tuple[str, ...]

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Tensor],
        path: str | Path,
        kind: str | None = None,
        sha256: str | None = None,
        beside: tuple[str, ...] = (),
    ) -> OfficialCheckpoint:
        """Sort the tensors of a state dict into parts.

        Args:
            state: Tensors by official names.
            path: Where they come from, for messages.
            kind: What is wanted; None takes whatever it is.
            sha256: Of the file.
            beside: What else the file holds.

        Raises:
            InputError: It is something else than wanted, its architecture is unknown, or a tensor is missing, left
                over or of another shape.
        """
        found = require_kind(state, kind, path)
        unused = unused_keys(state, found)
        used = {key: _single(value) for key, value in state.items() if key not in unused}
        # A proposal network keeps the prefix that it has inside other files where it was cut out of one.
        offline = any(key.startswith("offline_") for key in used)
        table = OFFICIAL_PARTS if offline else _PARTS.get(found, OFFICIAL_PARTS)
        parts, _ = split(used, table)
        towers = {part: require_architecture(parts[part], path) for part in ("student", "teacher") if part in parts}
        report = compare(wanted_shapes(found, parts, table, towers), used, [BATCH_COUNTS])
        report.require(path, mend=f"fetch {KINDS[found].example} or its like again")
        return cls(Path(path), found, towers.get("student"), sha256, dict(state), parts, unused, beside)

    @property
    def model_cfg(self) -> dict[str, Any]:
        """open_clip's configuration of the student: embed_dim, quick_gelu, vision_cfg, text_cfg."""
        return self.clip_config()

    def clip_config(self, teacher: bool = False) -> dict[str, Any]:
        """Return open_clip's configuration of the student or of the teacher.

        Raises:
            InputError: The file has no such part.
        """
        part = "teacher" if teacher else "student"
        return copy.deepcopy(clip_config(require_architecture(self._part(part), self.path)))

    def visual(self, teacher: bool = False) -> dict[str, Tensor]:
        """Return the image tower by the names of open_clip's ``ModifiedResNet``.

        Raises:
            InputError: The file has no such part.
        """
        return _with_batch_counts(self._part("teacher" if teacher else "student"))

    def text(self, teacher: bool = False) -> dict[str, Tensor]:
        """Return the text encoder by open_clip's names; a teacher without one of its own shares the student's.

        Raises:
            InputError: The file has no such part.
        """
        return dict(self._part("teacher_text" if teacher and "teacher_text" in self.parts else "text"))

    def clip(self, teacher: bool = False) -> dict[str, Tensor]:
        """Return a whole CLIP by open_clip's names.

        The logit scale is the file's, or log(100), CLIP's and RegionCLIP's, where it has none.

        Raises:
            InputError: The file has no such part.
        """
        visual = {f"visual.{name}": value for name, value in self.visual(teacher).items()}
        scale = self.parts.get("scale", {"logit_scale": torch.tensor(math.log(100.0))})
        return {**visual, **self.text(teacher), **scale}

    def rpn(self) -> RpnWeights:
        """Return the proposal network by MMDetection's names.

        Raises:
            InputError: The file has none.
        """
        weights = read_rpn(self._part("rpn"))
        return RpnWeights(weights.architecture, _with_batch_counts(weights.state))

    def detector(self) -> dict[str, Tensor]:
        """Return the open-vocabulary Fast R-CNN by the names of ``models/configs/ov_fast_rcnn_clip_rn50_c4.py``.

        The classifier holds the training embeddings; the mask head is there where the file has one.

        Raises:
            InputError: The file has no box predictor, or its background is no row of zeros.
        """
        heads = self._part("heads")
        if heads[f"{_BOX}.cls_bg_score.weight"].any():
            raise InputError(
                "the background's embedding is not zero; the classifier here has a background logit of 0",
                file=self.path,
                key=f"{_BOX}.cls_bg_score.weight",
                mend="give a detector that the official code trained with its text embeddings",
            )
        visual, _ = MODIFIED_RESNET_TO_DETECTOR.apply(self.visual())
        return {**visual, **HEADS.apply(heads)[0]}

    @property
    def training_embeddings(self) -> Tensor | None:
        """Text embeddings of the training classes, (K, D), or None."""
        return self.parts.get("heads", {}).get(f"{_BOX}.cls_score.weight")

    @property
    def test_embeddings(self) -> Tensor | None:
        """Text embeddings of the test classes, (K, D), or None."""
        return self.parts.get("heads", {}).get(f"{_BOX}.test_cls_score.weight")

    def _part(self, part: str) -> Mapping[str, Tensor]:
        if part not in self.parts:
            words, kind = _WORDS[part]
            raise InputError(
                f"this is {KINDS[self.kind].words}; wanted one with a {words}",
                file=self.path,
                mend=f"give a file such as {KINDS[kind].example}",
            )
        return self.parts[part]


def read_official(path: str | Path, kind: str | None = None) -> OfficialCheckpoint:
    """Read an official checkpoint, a proposal network of Detectron2, a CLIP ResNet, or our own pretraining's.

    Args:
        path: ``.pth``, ``.pt``, ``.bin`` or ``.safetensors``; no code of it is run.
        kind: What is wanted, a key of `kinds.KINDS`; None takes whatever it is.

    Raises:
        InputError: The file is damaged, something else than wanted, of unknown architecture, or not whole.
    """
    container = read_container(path)
    if isinstance(container, Tensor):
        raise InputError(
            f"this is one tensor of shape {tuple(container.shape)}, such as text embeddings; wanted "
            f"{KINDS[kind].words if kind else 'a checkpoint'}",
            file=path,
            mend="turn text embeddings into a text bank: regionclip convert FILE --to text-bank",
        )
    return OfficialCheckpoint.from_state(container.tensors, path, kind, sha256_file(path), container.beside)


def _single(value: Tensor) -> Tensor:
    """OpenAI's weights may be half precision."""
    return value.float() if value.is_floating_point() else value


def _with_batch_counts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add what open_clip's and MMDetection's batch norms count and Detectron2's frozen one does not."""
    names = (key.removesuffix("running_var") + "num_batches_tracked" for key in state if key.endswith("running_var"))
    return {**{name: torch.tensor(0) for name in names}, **state}
