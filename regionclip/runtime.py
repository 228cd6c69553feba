"""Runtime settings from the environment: they say where and how a stage runs, and never trigger a rebuild."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.errors import InputError

if TYPE_CHECKING:
    import torch

SCRATCH = Path(".scratch")


def workers() -> int:
    """Helper processes for rendering, decoding and loading (``REGIONCLIP_WORKERS``).

    Default: all cores, at most 8; of processes that share a stage each takes its part of the cores.
    """
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return _integer("REGIONCLIP_WORKERS", default=min(max(1, (os.cpu_count() or 1) // sharing), 8), least=0)


def loader_workers() -> int:
    """Helper processes that load for a model (``REGIONCLIP_WORKERS``; default: as `workers`, but see below).

    A model on one or two cores has none by default: helpers would take the cores that it computes on, and hand over
    every tensor through the kernel besides (benchmarks/results/loader_workers.md).
    """
    few = device().type == "cpu" and (os.cpu_count() or 1) <= 2
    return 0 if few and not os.environ.get("REGIONCLIP_WORKERS") else workers()


def processes() -> int:
    """Processes on this machine that share a stage which can be shared (``REGIONCLIP_PROCESSES``; default: 1)."""
    return _integer("REGIONCLIP_PROCESSES", default=1, least=1)


def torchrun_options() -> list[str]:
    """Further arguments of ``torchrun`` (``REGIONCLIP_TORCHRUN``), such as those that name the other machines."""
    return shlex.split(os.environ.get("REGIONCLIP_TORCHRUN", ""))


def inside_group() -> bool:
    """Whether ``torchrun`` started this process, alone or with others; MMDetection's tools set LOCAL_RANK alone."""
    return {"LOCAL_RANK", "RANK"} <= os.environ.keys()


def is_first() -> bool:
    """Whether this process is the one of its group that speaks and writes; true outside a group."""
    return os.environ.get("RANK", "0") == "0"


def device() -> torch.device:
    """Where models run (``REGIONCLIP_DEVICE``, for example ``cuda:0``; default: CUDA when there is one, else CPU).

    Of processes that share a stage each takes the GPU of its own number.
    """
    import torch

    name = os.environ.get("REGIONCLIP_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"'{name}' is no device", key="REGIONCLIP_DEVICE", mend="set it to cpu, cuda or cuda:N in the environment"
        ) from None
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if name == "cuda" and inside_group() else chosen


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
