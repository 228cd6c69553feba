"""Tensors of weight files: written as safetensors whose bytes depend on the content alone; refused where not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from regionclip.errors import InputError

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


def refuse_non_finite(tensors: Mapping[str, torch.Tensor], file: str | Path) -> None:
    """Refuse tensors that hold NaN or infinity; what is made of them is neither right nor an error later.

    Args:
        tensors: By name; those of whole numbers are passed over.
        file: Where they come from or go to, for the message.

    Raises:
        InputError: Names the first tensor at fault and how many there are.
    """
    if bad := non_finite(tensors):
        problem = f"holds numbers that are not finite, in {len(bad)} of {len(tensors)} tensors"
        raise InputError(problem, file=file, key=bad[0], mend="take the weights of a training that stayed sound")


def non_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of tensors that hold NaN or infinity; the device is asked once where none does."""
    known = {name: value.detach() for name, value in tensors.items() if value.is_floating_point()}
    if not known:
        return []
    # A sum keeps NaN and infinity, and takes a tenth of the time; it may overflow, too.
    sums = torch.stack([value.sum(dtype=torch.float32) for value in known.values()]).tolist()
    suspects = [name for name, total in zip(known, sums, strict=True) if not math.isfinite(total)]
    return [name for name in suspects if not known[name].isfinite().all()]
