"""How often a detector is right at a score: fitted on pictures with truth, base and novel names apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regionclip.errors import InputError
from regionclip.files import read_json, write_json

# They bring torch, which whoever reads a calibration need not have yet.
if TYPE_CHECKING:
    from regionclip.data.annotations.truth import BoxArrays, Truth
    from regionclip.data.layout import ClassList

FLOOR = 0.01  # scores below are not looked at
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_LEAST = 100  # detections that a threshold is said of: among fewer, hits are luck
_BINS = 15  # of the expected calibration error, of equal numbers of detections
_FORMAT = "regionclip-calibration-1"


class Judged(NamedTuple):
    """Detections on pictures with truth.

    Attributes:
        scores: (N,).
        right: (N,) bool: on an object of its name, at IoU 0.5, that no surer one is on.
        novel: (N,) bool: of a name whose boxes the training had not.
        absent: (N,) bool: of a name that the picture has not.
        chances: Pairs of a picture and a name that it has not: of base names, of novel names.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    novel: NDArray[np.bool_]
    absent: NDArray[np.bool_]
    chances: tuple[int, int]


@dataclass(frozen=True)
class Curve:
    """Chance that a detection is right: sigmoid(slope * log(score) + intercept); official scores may exceed 1.

    ``thresholds``: by precision, the least score from which on so many of the detections were right; what no score
    reached is missing.
    """

    slope: float
    intercept: float
    thresholds: dict[str, float]
    detections: int

    def __call__(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the chance of each score, (N,)."""
        return _sigmoid(self.slope * _log(scores) + self.intercept).astype(np.float32)


@dataclass(frozen=True)
class Calibration:
    """Curves of a detector's base and novel names; a group without detections has none.

    ``checked`` is what `check` found on other pictures.
    """

    base_names: tuple[str, ...]
    base: Curve | None
    novel: Curve | None
    detector_sha256: str
    truth_sha256: str
    checked: dict[str, dict[str, Any]] = field(default_factory=dict)

    def confidence(self, scores: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.float32]:
        """Return the chance that each detection is right, (N,); NaN where its group has no curve."""
        known, found = set(self.base_names), np.full(len(scores), np.nan, np.float32)
        base = np.array([name in known for name in names], bool)
        for rows, curve in ((base, self.base), (~base, self.novel)):
            if curve is not None:
                found[rows] = curve(np.asarray(scores)[rows])
        return found

    def thresholds(self, names: Collection[str], precision: float) -> dict[str, float]:
        """Return the threshold of each name at which so many of the detections are right.

        Raises:
            InputError: The precision is none of `PRECISIONS`, or no score of a name's group reaches it.
        """
        if precision not in PRECISIONS:
            mend = f"choose among {', '.join(map(str, PRECISIONS))}"
            raise InputError(f"{precision!r:.40} was not measured", key="precision", mend=mend)
        known, found = set(self.base_names), {}
        for name in names:
            curve = self.base if name in known else self.novel
            least = None if curve is None else curve.thresholds.get(str(precision))
            if least is None:
                problem = f"no score is right in {precision:.0%} of cases"
                raise InputError(problem, record=name, key="precision", mend="ask for less, or give a threshold")
            found[name] = least
        return found

    def save(self, file: Path) -> None:
        """Write it as JSON, atomically."""
        write_json(file, {"format": _FORMAT, **asdict(self)})

    @classmethod
    def load(cls, file: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            InputError: The file holds something else.
        """
        content = read_json(file)
        try:
            if content.pop("format") != _FORMAT:
                raise ValueError("the format")
            curves = {key: content[key] and Curve(**content[key]) for key in ("base", "novel")}
            return cls(**content | curves | {"base_names": tuple(content["base_names"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            mend = "run `regionclip calibrate` again"
            raise InputError(f"not a calibration ({error})", file=file, mend=mend) from None


def judged(protocol: str, truth: Truth, found: BoxArrays, classes: ClassList) -> Judged:
    """Compare detections, of scores from `FLOOR` on, with what is true; arguments as of `measure`, of all classes."""
    from regionclip.evaluation.average_precision import image_classes
    from regionclip.evaluation.detection_errors import IGNORED, RIGHT, judge

    kinds = judge(protocol, truth, found, classes).kinds
    kept, objects = kinds != IGNORED, truth.objects
    seen, novel_ids = found.take(kept), list(classes.ids_of(classes.novel_names))
    there = np.unique(image_classes(truth, objects.image_ids, objects.category_ids))
    novel = np.isin(seen.category_ids, novel_ids)
    absent = ~np.isin(image_classes(truth, seen.image_ids, seen.category_ids), there)
    # Of LVIS's classes it is known of some only that a picture has them not.
    if classes.federated:
        gone = np.array([key for image in truth.images for key in image["neg_category_ids"]], np.int64)
    else:
        pairs = np.arange(len(truth.category_ids) * len(truth.images))
        gone = np.array(truth.category_ids)[np.setdiff1d(pairs, there) // len(truth.images)]
    of_novel = int(np.isin(gone, novel_ids).sum())
    return Judged(seen.scores, kinds[kept] == RIGHT, novel, absent, (len(gone) - of_novel, of_novel))


def fit(judged: Judged, base_names: Collection[str], detector_sha256: str, truth_sha256: str) -> Calibration:
    """Fit the curves of base and novel names."""
    base, novel = (
        _curve(judged.scores[rows], judged.right[rows]) if rows.any() else None
        for rows in (~judged.novel, judged.novel)
    )
    return Calibration(tuple(base_names), base, novel, detector_sha256, truth_sha256)


def check(calibration: Calibration, judged: Judged) -> dict[str, dict[str, Any]]:
    """Measure a calibration on other pictures.

    Returns:
        By group: ``detections``; ``ece_score`` and ``ece``, the expected calibration error of the raw score and of the
        chance; and by precision the threshold, the ``precision`` there, how many were ``kept``, and ``false_alarms``:
        detections of absent names, of all pairs of a picture and an absent name.
    """
    found = {}
    for group, curve, rows, chances in (
        ("base", calibration.base, ~judged.novel, judged.chances[0]),
        ("novel", calibration.novel, judged.novel, judged.chances[1]),
    ):
        if curve is None or not rows.any():
            continue
        scores, right, absent = judged.scores[rows], judged.right[rows], judged.absent[rows]
        at = {}
        for precision, least in curve.thresholds.items():
            sure = scores > least
            share = float(right[sure].mean()) if sure.any() else None
            alarms = float((sure & absent).sum() / chances) if chances else None
            at[precision] = {"threshold": least, "precision": share, "kept": int(sure.sum()), "false_alarms": alarms}
        errors = {"ece_score": calibration_error(scores, right), "ece": calibration_error(curve(scores), right)}
        found[group] = {"detections": int(rows.sum()), **errors, "at": at}
    return found


def calibration_error(chances: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: |mean chance - share right|, mean over bins of equal numbers."""
    order = np.argsort(chances, kind="stable")
    bins = [rows for rows in np.array_split(order, _BINS) if len(rows)]
    gaps = [abs(float(chances[rows].mean()) - float(right[rows].mean())) * len(rows) for rows in bins]
    return sum(gaps) / max(len(order), 1)


def _curve(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Curve:
    """Fit Platt's logistic curve (1999) by Newton steps, his targets short of 0 and 1, and find the thresholds."""
    x, hits = _log(scores), int(right.sum())
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2))
    columns, weights = np.stack([x, np.ones_like(x)], axis=1), np.array([1.0, 0.0])
    for _ in range(50):
        chance = _sigmoid(columns @ weights)
        slope = columns.T @ (chance - target)
        bend = (columns * (chance * (1 - chance))[:, None]).T @ columns + 1e-6 * np.eye(2)
        step = np.linalg.solve(bend, slope)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    order = np.argsort(-scores, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    thresholds = {}
    for wanted in PRECISIONS:
        reached = np.flatnonzero(precision >= wanted)
        if reached.size and reached[-1] + 1 >= _LEAST:
            last = reached[-1]
            below = scores[order[last + 1]] if last + 1 < len(order) else 0.0
            thresholds[str(wanted)] = float((scores[order[last]] + below) / 2)
    return Curve(float(weights[0]), float(weights[1]), thresholds, len(scores))


def _log(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log(np.clip(np.asarray(scores, np.float64), 1e-6, None))


def _sigmoid(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(value, -60, 60)))
