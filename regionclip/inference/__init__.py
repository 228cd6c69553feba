"""The Python API: a trained detector that finds whatever it is given the names of."""

from __future__ import annotations

from regionclip.inference.detector import Detection, Detector

__all__ = ["Detection", "Detector"]
