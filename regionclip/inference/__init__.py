"""The Python API: a trained detector that finds whatever it is given the names of."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regionclip.inference.api import RegionCLIP
    from regionclip.inference.results import Result
    from regionclip.inference.sources import Example

__all__ = ["Example", "RegionCLIP", "Result"]

THRESHOLD = 0.3
"""Least score of a detection where none is asked for, through every door."""

BATCH_SIZE = 8
"""Pictures that a search takes at a time."""

_MODULES = {"Example": "sources", "RegionCLIP": "api", "Result": "results"}


def __getattr__(name: str) -> Any:
    # Promotion is of this package too, and runs where no torch is.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
