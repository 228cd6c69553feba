"""Checkpoints as MMEngine reads them: loaded without running code from the file, written whole or not at all."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from regionclip.checkpoints.containers import refusal, refuse_non_finite, require_weights
from regionclip.errors import InputError
from regionclip.files import atomic_path


def _statistic(owner: type, name: str) -> Callable[..., Any]:
    """Stand in for ``getattr`` when a checkpoint is read: MMEngine's loss history stores four statistics by it."""
    if owner is not HistoryBuffer or name not in {"min", "max", "current", "mean"}:
        raise pickle.UnpicklingError(
            f"Unsupported global: GLOBAL getattr({getattr(owner, '__qualname__', owner)}.{name})"
        )
    return getattr(HistoryBuffer, name)


# What MMEngine's resume state holds besides tensors and plain values: its loss history, kept in NumPy arrays.
RESUME_TYPES: list[Any] = [
    HistoryBuffer,
    (_statistic, "builtins.getattr"),
    np.ndarray,
    np.dtype,
    np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    *(type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.float32, np.float64)),
]


def register_safe_loader() -> None:
    """Make MMEngine read local checkpoints with ``weights_only=True``; its own (0.10.7) runs any pickled code."""
    CheckpointLoader.register_scheme(prefixes="", loader=_load_from_local, force=True)


def _load_from_local(filename: str, map_location: Any = None) -> Any:
    # MMEngine logs the loader's name from its eleventh letter on.
    with torch.serialization.safe_globals(RESUME_TYPES):
        return _load(Path(filename).expanduser(), map_location)


def publish(state_dict: dict[str, torch.Tensor], path: str | Path, meta: dict[str, Any]) -> None:
    """Write a checkpoint that ``read``, MMEngine and ``torch.load(weights_only=True)`` can read, atomically.

    Args:
        state_dict: The weights; they are copied to the CPU.
        path: The file.
        meta: Plain values about the weights: classes, hashes of what made them, preprocessing.

    Raises:
        InputError: A weight is not finite.
    """
    refuse_non_finite(state_dict, path)
    weights = {key: value.detach().cpu() for key, value in state_dict.items()}
    # Given a path, torch.save would put the temporary file's name into the file, and equal weights would differ.
    with atomic_path(path) as beside, beside.open("wb") as file:
        torch.save({"state_dict": weights, "meta": meta}, file)


def read(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what ``publish`` wrote.

    Returns:
        The weights, on the CPU, and the meta.

    Raises:
        InputError: The file is absent, damaged, holds anything but tensors and plain values, lacks a key, or holds a
            weight that is not finite.
    """
    checkpoint = _load(Path(path), "cpu")
    for key in ("state_dict", "meta"):
        if not isinstance(checkpoint, dict) or key not in checkpoint:
            mend = "give a checkpoint that a training stage wrote"
            raise InputError("the key is missing", file=path, key=key, mend=mend)
    state = checkpoint["state_dict"]
    require_weights(state, Path(path))
    refuse_non_finite(state, path)
    return state, checkpoint["meta"]


def _load(path: Path, map_location: Any) -> Any:
    try:
        # PyTorch writes the sums of a file's parts and compares none: parts of zeros would be taken for whole.
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                if damaged := parts.testzip():
                    raise zipfile.BadZipFile(f"{damaged} has another checksum")
        return torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise InputError("the checkpoint does not exist", file=path, mend="run the stage that writes it") from None
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise refusal(error, path) from None
