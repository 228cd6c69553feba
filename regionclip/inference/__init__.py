"""The Python API: a trained detector that finds whatever it is given the names of."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from regionclip.errors import InputError

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


def _limit(default: float, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Limits:
    """What one request may take of the service, and what all together; each is an option of ``regionclip serve``."""

    max_batch: int = _limit(8, "pictures that go to the model together")
    max_wait: float = _limit(0.005, "seconds that an idle model waits for more of them")
    max_queue: int = _limit(64, "requests at a time; more are answered 503")
    timeout: float = _limit(30.0, "seconds for a request, then 408 while it is sent and 504 while it is worked on")
    max_bytes: int = _limit(20_000_000, "bytes of a request")
    max_pixels: int = _limit(25_000_000, "pixels of a picture")
    max_names: int = _limit(2000, "names, phrases and background texts of a request")

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name) >= (0 if one.name == "max_wait" else 1):
                key = f"--{one.name.replace('_', '-')}"
                raise InputError(f"{getattr(self, one.name)} is too little", key=key, mend="give 1 or more")


def __getattr__(name: str) -> Any:
    # Promotion is of this package too, and runs where no torch is.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
