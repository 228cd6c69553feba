"""Our outputs beside the official ones: the worst deviation of each key, and whether it is small enough."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from benchmarks.parity.golden_folder import Arrays

TENSOR, LOSS, NORM, GRADIENT = 1e-4, 1e-4, 1e-3, 1e-3
# The gradient of the key bias is zero in theory; what there is is rounding noise.
_NO_GRADIENT = re.compile(r"k_proj\.bias$")
# Results of NMS, whose rows have no order to rely on: the boxes of a set, and what goes with them.
_SETS = [
    (re.compile(r"^(?P<run>.*?)raw_boxes(?P<picture>[AB])$"), ["scores", "classes"]),
    (re.compile(r"^(?P<run>prop_)boxes(?P<picture>[AB])$"), ["logits"]),
    (re.compile(r"^(?P<run>.*?)(?<!raw_)boxes(?P<picture>[AB])$"), ["scores", "classes"]),
]


@dataclass(frozen=True)
class Verdict:
    """How one key compares.

    Attributes:
        key: Its name.
        kind: What was compared, and relative to what.
        deviation: The worst one; for sets and exact values, how many have no equal.
        tolerance: The largest that passes.
        note: What else there is to say.
    """

    key: str
    kind: str
    deviation: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the deviation is within the tolerance; not-a-number is not."""
        return self.deviation <= self.tolerance


def compare(actual: Arrays, reference: Arrays) -> list[Verdict]:
    """Compare every key of ``reference``; a key that is missing or of another shape fails."""
    verdicts, in_sets = [], set()
    for key in reference:
        members = _set_members(key, reference)
        if members:
            in_sets.update(members[1:] if "raw_boxes" not in key else [])
            verdicts.append(_sets(members, actual, reference))
    done = in_sets | {verdict.key for verdict in verdicts}
    return verdicts + [_single(key, actual, reference) for key in reference if key not in done]


def _set_members(key: str, arrays: Arrays) -> list[str]:
    """Return the keys that describe one set, boxes first; none if ``key`` is not its boxes."""
    for pattern, others in _SETS:
        match = pattern.match(key)
        if match:
            names = [f"{match['run']}{other}{match['picture']}" for other in others]
            return [key, *names] if all(name in arrays for name in names) else []
    return []


def _sets(keys: list[str], actual: Arrays, reference: Arrays) -> Verdict:
    """Match rows one to one by all of ``keys``; the deviation is the number of rows without a partner."""
    if any(key not in actual for key in keys):
        return Verdict(keys[0], "set", np.inf, 0, "missing")
    ours, theirs = len(actual[keys[0]]), len(reference[keys[0]])
    same = np.ones((ours, theirs), dtype=bool)
    for key in keys:
        a, b = (arrays[key].reshape(len(arrays[key]), -1).astype(np.float64) for arrays in (actual, reference))
        tolerance = 0 if "classes" in key else TENSOR * np.abs(b).max(initial=0)
        same &= np.abs(a[:, None] - b[None]).max(axis=2) <= tolerance
    lonely = int((~same.any(axis=1)).sum() + (~same.any(axis=0)).sum())
    return Verdict(keys[0], f"set of {theirs}", lonely, 0, "" if ours == theirs else f"{ours} of ours")


def _single(key: str, actual: Arrays, reference: Arrays) -> Verdict:
    expected = reference[key]
    if key not in actual:
        return Verdict(key, "key", np.inf, 0, "missing")
    found = actual[key]
    if found.shape != expected.shape or found.dtype.kind != expected.dtype.kind:
        return Verdict(key, "shape", np.inf, 0, f"{found.shape} {found.dtype}, not {expected.shape} {expected.dtype}")
    if expected.dtype.kind not in "f":
        return Verdict(key, "exact", int(np.sum(found != expected)), 0)
    difference = np.abs(found.astype(np.float64) - expected)
    scale, kind, tolerance = _scale(key, expected), "relative to maximum", TENSOR
    if "loss_" in key:
        kind, tolerance = "relative", LOSS
    elif key.endswith("grad_norms"):
        names = reference[key.replace("norms", "names")]
        counts = np.array([not _NO_GRADIENT.search(str(name)) for name in names])
        difference, scale, kind, tolerance = difference[counts], scale[counts], "relative", NORM
    elif "grad|" in key:
        tolerance = GRADIENT
    return Verdict(key, kind, float(np.max(difference / scale, initial=0)), tolerance)


def _scale(key: str, expected: np.ndarray) -> np.ndarray:
    """Return what deviations are relative to, of the shape of ``expected``."""
    magnitude = np.abs(expected.astype(np.float64))
    if key.endswith("summary"):
        # Mean and standard deviation, relative to the latter; largest magnitude and norm, each to itself.
        return magnitude[[1, 1, 2, 3]]
    if "loss_" in key or key.endswith("grad_norms"):
        return magnitude
    return np.full_like(magnitude, magnitude.max(initial=0) or 1)
