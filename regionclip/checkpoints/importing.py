"""What a stage takes from a file instead of making it: a CLIP, a proposal network or a detector, of any origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.containers import Container, read_container
from regionclip.checkpoints.official import read_official
from regionclip.checkpoints.training_state import read

_CLASSIFIER = "roi_head.bbox_head.fc_cls.embeddings"


def clip_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a CLIP: a CLIP folder, a pretrained RegionCLIP, or a CLIP ResNet of OpenAI or open_clip.

    Returns:
        open_clip's model configuration and state dict.

    Raises:
        InputError: The file is none of these, or is not whole.
    """
    if Path(path).is_dir():
        folder = ClipFolder.open(path)
        return folder.model_cfg, folder.state_dict()
    official = read_official(path)
    return official.model_cfg, official.clip()


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
    return read_official(path).rpn().state, ()


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
