"""Safetensors files whose bytes depend on nothing but their content."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

_LENGTH = 8  # bytes of the little-endian length before the JSON header


def save_tensors(tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str]) -> None:
    """Write tensors and metadata; equal content gives equal bytes.

    The library writes metadata in an order that changes from call to call, so that checksums of equal weights differ
    and DVC runs everything behind them again.

    Args:
        tensors: Contiguous tensors on the CPU.
        path: The file.
        metadata: Texts by name.
    """
    save_file(tensors, path, metadata=metadata)
    with Path(path).open("r+b") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(_LENGTH)
        file.write(text.ljust(length))
