"""How often a detector is right at a score: fitted on pictures with truth, base and novel names apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from regionclip.errors import InputError
from regionclip.files import read_json, write_json

if TYPE_CHECKING:
    from regionclip.data.annotations.truth import Truth
    from regionclip.inference.api import RegionCLIP

OVERLAP = 0.5  # IoU from which a detection is right
FLOOR = 0.01  # scores below are not looked at
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_LEAST = 100  # detections that a threshold is said of: among fewer, hits are luck
_BINS = 15  # of the expected calibration error, of equal numbers of detections
_FORMAT = "regionclip-calibration-1"


class Judged(NamedTuple):
    """Detections on pictures with truth.

    Attributes:
        scores: (N,).
        right: (N,) bool: overlaps an object of its name that no surer one overlaps.
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


def judge(model: RegionCLIP, truth: Truth, images: Path, base_names: Collection[str]) -> Judged:
    """Detect the classes of a truth on its pictures, and compare.

    Args:
        model: The detector.
        truth: COCO's or LVIS's; of the latter, what is not annotated in a picture is not judged.
        images: The folder that its file names start from.
        base_names: Names whose boxes the training had.
    """
    from regionclip.data.annotations.annotation_files import class_name, picture_name
    from regionclip.data.annotations.truth import boxes_by_image

    objects, names, chances = boxes_by_image(truth), [*map(class_name, truth.categories)], [0, 0]
    novel_class = np.array([name not in base_names for name in names], bool)
    files = [images / picture_name(picture) for picture in truth.images]
    results = model.detect(files, names, threshold=FLOOR)
    parts: list[tuple[NDArray[Any], ...]] = []
    for picture, result in zip(track(truth.images, description="detect on pictures with truth"), results, strict=True):
        boxes, categories = objects[picture["id"]]
        labels = np.searchsorted(truth.category_ids, categories)
        judged = _judged_classes(picture, truth.category_ids, labels)
        gone = judged & ~np.isin(np.arange(len(names)), labels)
        chances = [chances[0] + int((gone & ~novel_class).sum()), chances[1] + int((gone & novel_class).sum())]
        kept = result[judged[result.labels]]
        crowds = truth.objects.crowds & (truth.objects.image_ids == picture["id"])
        right = _right(kept.boxes, kept.labels, boxes, labels)
        if crowds.any():
            kept, right = _outside(kept, right, truth.objects.boxes[crowds])
        parts.append((kept.scores.astype(np.float64), right, novel_class[kept.labels], gone[kept.labels]))
    scores, right, novel, absent = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Judged(scores, right, novel, absent, (chances[0], chances[1]))


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


def _judged_classes(picture: Mapping[str, Any], ids: Sequence[int], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return of which classes it is known whether a picture has them, (K,)."""
    if "neg_category_ids" not in picture:
        return np.ones(len(ids), bool)
    known = np.isin(ids, picture["neg_category_ids"]) | np.isin(np.arange(len(ids)), labels)
    return known & ~np.isin(ids, picture.get("not_exhaustive_category_ids", []))


def _right(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], truth: NDArray[np.float32], classes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which detections, the surest first, are the first on an object of their name."""
    from regionclip.evaluation.overlap import overlaps

    near = overlaps(boxes, truth) * (labels[:, None] == classes[None, :])
    right, taken = np.zeros(len(boxes), bool), np.zeros(len(truth), bool)
    for row in range(len(boxes) if len(truth) else 0):
        best = int(np.where(taken, -1, near[row]).argmax())
        if not taken[best] and near[row, best] >= OVERLAP:
            right[row] = taken[best] = True
    return right


def _outside(result: Any, right: NDArray[np.bool_], crowds: NDArray[np.float64]) -> tuple[Any, NDArray[np.bool_]]:
    """Leave out what is not right but lies for the greater part in a crowd: it is not known what it is."""
    corners = np.concatenate([crowds[:, :2], crowds[:, :2] + crowds[:, 2:]], axis=1)
    low = np.maximum(result.boxes[:, None, :2], corners[None, :, :2])
    high = np.minimum(result.boxes[:, None, 2:], corners[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(axis=2).max(axis=1)
    area = (result.boxes[:, 2:] - result.boxes[:, :2]).prod(axis=1)
    kept = right | (inside < OVERLAP * area)
    return result[kept], right[kept]


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
