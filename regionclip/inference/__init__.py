"""The Python API: a trained detector that finds whatever it is given the names of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regionclip.inference.detector import Detection, Detector

__all__ = ["Detection", "Detector"]


def __getattr__(name: str) -> Any:
    # Promotion is of this package too, and runs where no torch is.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from regionclip.inference import detector

    return getattr(detector, name)
