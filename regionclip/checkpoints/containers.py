"""Weight files: of any origin to tensors without running code from them; safetensors written as equal bytes."""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from regionclip.errors import InputError

# Detectron2 writes `model`, MMEngine and open_clip's training write `state_dict`.
_WRAPPERS = ("model", "state_dict")
_MEND = "fetch the file again, or run the stage that writes it"
_MOST = 1 << 30  # numbers of a tensor that repeats what its file holds; the largest tensor of a CLIP has 0.13 of that
_LENGTH = 8  # bytes of the little-endian length before the JSON header


@dataclass(frozen=True)
class Container:
    """The content of a weight file.

    Attributes:
        tensors: By name, on the CPU.
        beside: Names of what else the file holds, such as an optimizer's state; nothing here reads it.
        metadata: Texts of a safetensors file; of others there are none.
    """

    tensors: dict[str, Tensor]
    beside: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_container(path: str | Path) -> Container | Tensor:
    """Read a weight file.

    Returns:
        The named tensors; or the tensor, where the file holds a single one without a name.

    Raises:
        InputError: The file is missing or damaged, needs code to be run, or holds something else or numbers that are
            not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("the file does not exist", file=path, mend="fetch it, or mend the path")
    content = _READERS.get(path.suffix, _read_torch)(path)
    if isinstance(content, Tensor):
        _require_plain(content, path, None)
    elif not isinstance(content, Container):
        content = _unwrap(content, path)
    refuse_non_finite({"(the array)": content} if isinstance(content, Tensor) else content.tensors, path)
    return content


def read_safetensors(path: Path) -> Container:
    """Read a safetensors file of any suffix.

    Raises:
        InputError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
            return Container(tensors, metadata=file.metadata() or {})
    except Exception as error:
        raise InputError(f"not a safetensors file, or cut short ({error})", file=path, mend=_MEND) from None


def _read_npy(path: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except Exception as error:
        problem = f"no array of numbers, cut short, or one that could run code when it is loaded ({error})"
        raise InputError(problem, file=path, mend="save it with numpy.save as float32") from None


def _read_torch(path: Path) -> Any:
    # Training checkpoints of MMEngine also hold its loss history. The import is slow, so it is here.
    from regionclip.checkpoints.mmengine_files import RESUME_TYPES

    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(RESUME_TYPES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise refusal(error, path) from None


_READERS = {".safetensors": read_safetensors, ".npy": _read_npy}


def refusal(error: Exception, path: Path) -> InputError:
    """Say what torch.load found wrong; on a damaged file the machinery of pickle raises errors of all kinds.

    The key is set where the file names what could run code.
    """
    text = str(error)
    if "TorchScript" in text:
        problem = "a TorchScript archive, a program that would have to be run to get at its weights"
        mend = "save its `state_dict()` with torch.save where you trust it, or take open_clip's safetensors"
        return InputError(problem, file=path, mend=mend)
    # A type that is not on torch.load's list or comes from a module that it blocks; or a pickle of another writer.
    named = re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", text)
    with path.open("rb") as file:
        begins_as_pickle = file.read(1) == pickle.PROTO
    if named or ("Unsupported operand" in text and begins_as_pickle):
        problem = "a pickle that holds more than tensors and plain values, and could run code when it is loaded"
        key = named[1] if named else None
        return InputError(problem, file=path, key=key, mend="give a file of tensors and plain values")
    first = text.partition(". ")[0] or "it ends too early"
    problem = f"damaged, cut short, or no file of torch.save ({type(error).__name__}: {first})"
    return InputError(problem, file=path, mend=_MEND)


def _unwrap(content: Any, path: Path) -> Container:
    """Take the tensors out of the dict that a trainer saved."""
    beside: tuple[str, ...] = ()
    if isinstance(content, Mapping):
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is not None:
            beside = tuple(str(key) for key in content if key != wrapper)
            content = content[wrapper]
    require_weights(content, path)
    # DistributedDataParallel puts its own name before all others.
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return Container(dict(content), beside)


def require_weights(content: Any, path: Path) -> None:
    """Refuse what is no state dict.

    Raises:
        InputError: It holds nothing, something else than named tensors, or a tensor whose numbers are not in the file.
    """
    if not isinstance(content, Mapping) or not content:
        problem = f"holds no weights but a {type(content).__name__}"
        raise InputError(problem, file=path, mend="give a state dict that torch.save wrote")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            problem = f"a {type(value).__name__} among the weights"
            raise InputError(problem, file=path, key=str(key), mend="give a state dict")
        _require_plain(value, path, key)


def _require_plain(value: Tensor, path: Path, key: str | None) -> None:
    """Refuse a tensor whose numbers are not in the file one by one, or are no weights."""
    odd = value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu"
    if odd or value.numel() > max(_MOST, value.untyped_storage().nbytes()):
        kind = f"a tensor of {value.dtype}, {value.layout}, {value.device.type}, shape {tuple(value.shape)}"
        raise InputError(f"{kind} among the weights", file=path, key=key, mend="give dense tensors of numbers")


def save_tensors(tensors: dict[str, Tensor], path: str | Path, metadata: dict[str, str]) -> None:
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


def refuse_non_finite(tensors: Mapping[str, Tensor], file: str | Path) -> None:
    """Refuse tensors that hold NaN or infinity; what is made of them is neither right nor an error later.

    Raises:
        InputError: Names the first tensor at fault and how many there are.
    """
    if bad := non_finite(tensors):
        problem = f"holds numbers that are not finite, in {len(bad)} of {len(tensors)} tensors"
        raise InputError(problem, file=file, key=bad[0], mend="take the weights of a training that stayed sound")


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that hold NaN or infinity; the device is asked once where none does."""
    known = {name: value.detach() for name, value in tensors.items() if value.is_floating_point()}
    if not known:
        return []
    # A sum keeps NaN and infinity, and takes a tenth of the time; it may overflow, too.
    sums = torch.stack([value.sum(dtype=torch.float32) for value in known.values()]).tolist()
    suspects = [name for name, total in zip(known, sums, strict=True) if not math.isfinite(total)]
    return [name for name in suspects if not known[name].isfinite().all()]
