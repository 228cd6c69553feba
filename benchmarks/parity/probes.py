"""What is written of a tensor, and how intermediate tensors are caught."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from benchmarks.parity.golden_folder import Arrays


class Call(NamedTuple):
    """Positional arguments and output of one call of a module."""

    args: tuple[Any, ...]
    output: Tensor


def summary(tensor: Tensor) -> np.ndarray:
    """Return [mean, standard deviation, largest magnitude, L2 norm] of the whole tensor, float64."""
    x = tensor.detach().double()
    return np.array([float(x.mean()), float(x.std()), float(x.abs().max()), float(x.norm())])


def described(name: str, maps: Tensor, channels: int, side: int) -> Arrays:
    """Return summary, shape and a corner of feature maps (B, C, H, W)."""
    return {
        f"{name}_summary": summary(maps),
        f"{name}_shape": np.array(maps.shape, dtype=np.int64),
        f"{name}_slice": maps[:, :channels, :side, :side].detach().numpy().copy(),
    }


@contextmanager
def recorded(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Call]]]:
    """Keep every call of ``modules``, by name and in order."""
    calls: dict[str, list[Call]] = {name: [] for name in modules}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            calls[name].append(Call(args, output))

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
