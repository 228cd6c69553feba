"""Runtime settings from the environment: they say where and how a stage runs, and never trigger a rebuild."""

from __future__ import annotations

import os
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.errors import InputError

if TYPE_CHECKING:
    import torch

SCRATCH = Path(".scratch")
VERSION = Path("regionclip.version")
"""In a workspace of `regionclip new`: the version of the package, which its stages depend on in place of code."""
_A_CORE = 8  # helpers or processes a core at most; more are a slip of the pen, and would take the machine down


def check() -> None:
    """Read every setting, and place a number on the device, so that a wrong one is named before a stage does its work.

    Raises:
        InputError: A setting is wrong, the device is not there, or the workspace is of another version of the package.
    """
    import torch

    if VERSION.is_file() and (of := VERSION.read_text(encoding="utf-8").strip()) != version("regionclip"):
        mend = f"install regionclip {of}, or run `regionclip new .`, which brings the workspace to the installed one"
        raise InputError(f"of regionclip {of}, and {version('regionclip')} is installed", file=VERSION, mend=mend)
    for read in (workers, processes, torchrun_options, precision, lambda: checkpoint_interval(1)):
        read()
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        _integer(name, default=0, least=0)
    where = device()
    try:
        torch.zeros(1, device=where).item()
    except torch.OutOfMemoryError:
        # Others use it; later there may be room.
        raise
    except RuntimeError as error:
        problem = f"{where} does not work ({str(error).splitlines()[0]})"
        raise InputError(problem, key="REGIONCLIP_DEVICE", mend="mend the driver, or set it to cpu") from None


def workers() -> int:
    """Helper processes for rendering, decoding and loading (``REGIONCLIP_WORKERS``).

    Default: all cores, at most 8; of processes that share a stage each takes its part of the cores.
    """
    sharing = _integer("LOCAL_WORLD_SIZE", default=1, least=1)
    default = min(max(1, (os.cpu_count() or 1) // sharing), 8)
    return _integer("REGIONCLIP_WORKERS", default, least=0, most=_A_CORE * (os.cpu_count() or 1))


def loader_workers() -> int:
    """Helper processes that load for a model (``REGIONCLIP_WORKERS``; default: as `workers`, but see below).

    A model on one or two cores has none by default: helpers would take the cores that it computes on, and hand over
    every tensor through the kernel besides (benchmarks/results/loader_workers.md).
    """
    few = device().type == "cpu" and (os.cpu_count() or 1) <= 2
    return 0 if few and not os.environ.get("REGIONCLIP_WORKERS") else workers()


def processes() -> int:
    """Processes on this machine that share a stage which can be shared (``REGIONCLIP_PROCESSES``; default: 1)."""
    return _integer("REGIONCLIP_PROCESSES", default=1, least=1, most=_A_CORE * (os.cpu_count() or 1))


def torchrun_options() -> list[str]:
    """Further arguments of ``torchrun`` (``REGIONCLIP_TORCHRUN``), such as those that name the other machines."""
    name = "REGIONCLIP_TORCHRUN"
    try:
        return shlex.split(os.environ.get(name, ""))
    except ValueError as error:
        problem = f"no line of arguments ({error})"
        raise InputError(problem, key=name, mend="write it as in a shell, with both quotation marks") from None


def inside_group() -> bool:
    """Whether ``torchrun`` started this process, alone or with others; MMDetection's tools set LOCAL_RANK alone."""
    return {"LOCAL_RANK", "RANK"} <= os.environ.keys()


def is_first() -> bool:
    """Whether this process is the one of its group that speaks and writes; true outside a group."""
    return os.environ.get("RANK", "0") == "0"


def device(name: str | None = None) -> torch.device:
    """Where models run: ``name``, or ``REGIONCLIP_DEVICE``, for example ``cuda:0``; default: CUDA if there is one.

    Of processes that share a stage each takes the GPU of its own number.

    Raises:
        InputError: It is another kind of device, or there is no such GPU.
    """
    import torch

    key, there = "REGIONCLIP_DEVICE", torch.cuda.device_count()
    name = name or os.environ.get(key) or ("cuda" if there else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name):
        mend = "set it to cpu, cuda or cuda:N in the environment"
        raise InputError(f"'{name}' is no device that models run on here", key=key, mend=mend)
    if name == "cpu":
        return torch.device(name)
    chosen = torch.device("cuda", _integer("LOCAL_RANK", 0, 0) if name == "cuda" and inside_group() else None)
    chosen = torch.device(name) if name != "cuda" else chosen
    if (chosen.index or 0) >= there:
        raise InputError(f"'{chosen}': PyTorch sees {there} GPUs here", key=key, mend="set it to cpu or another number")
    return chosen


def precision() -> str:
    """Name of torch's type that models train and infer in (``REGIONCLIP_PRECISION``: ``fp32``, ``fp16``, ``bf16``)."""
    name = os.environ.get("REGIONCLIP_PRECISION") or "fp32"
    types = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    if name not in types:
        raise InputError(f"'{name}' is no precision", key="REGIONCLIP_PRECISION", mend="set it to fp32, fp16 or bf16")
    return types[name]


def checkpoint_interval(total: int) -> int:
    """Iterations between resume points (``REGIONCLIP_CHECKPOINT_INTERVAL``; default: a tenth of all, at most 1000)."""
    return _integer("REGIONCLIP_CHECKPOINT_INTERVAL", default=max(1, min(1000, total // 10)), least=1)


def _integer(name: str, default: int, least: int, most: int = 10**9) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        problem = f"'{text[:40]}' is no whole number from {least} to {most:,}"
        raise InputError(problem, key=name, mend="mend it in the environment")
    return value
