"""Runtime settings from the environment: they say where and how a stage runs, and never trigger a rebuild."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.errors import InputError

if TYPE_CHECKING:
    import torch

SCRATCH = Path(".scratch")


def workers() -> int:
    """Helper processes for rendering, decoding and loading (``REGIONCLIP_WORKERS``; default: all cores, at most 8)."""
    return _integer("REGIONCLIP_WORKERS", default=min(os.cpu_count() or 1, 8), least=0)


def device() -> torch.device:
    """Where models run (``REGIONCLIP_DEVICE``, for example ``cuda:0``; default: CUDA when there is one, else CPU)."""
    import torch

    name = os.environ.get("REGIONCLIP_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise InputError(
            f"'{name}' is no device", key="REGIONCLIP_DEVICE", mend="set it to cpu, cuda or cuda:N in the environment"
        ) from None


def precision() -> str:
    """Training precision (``REGIONCLIP_PRECISION``: ``fp32``, the default, ``fp16`` or ``bf16``)."""
    name = os.environ.get("REGIONCLIP_PRECISION", "fp32")
    if name not in {"fp32", "fp16", "bf16"}:
        raise InputError(f"'{name}' is no precision", key="REGIONCLIP_PRECISION", mend="set it to fp32, fp16 or bf16")
    return name


def checkpoint_interval(total: int) -> int:
    """Iterations between resume points (``REGIONCLIP_CHECKPOINT_INTERVAL``; default: a tenth of all, at most 1000)."""
    return _integer("REGIONCLIP_CHECKPOINT_INTERVAL", default=max(1, min(1000, total // 10)), least=1)


def _integer(name: str, default: int, least: int) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise InputError(f"'{text}' is no whole number from {least} up", key=name, mend="mend it in the environment")
    return value
