"""What goes wrong in detections, and what each kind of mistake costs; after TIDE (Bolya et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionclip.data.annotations.annotation_files import picture_name
from regionclip.data.annotations.truth import BoxArrays, Truth
from regionclip.data.layout import ClassList
from regionclip.evaluation.overlap import overlaps
from regionclip.evaluation.protocols import PROTOCOLS

FOREGROUND, BACKGROUND = 0.5, 0.1
"""IoU from which a box is on an object, and below which it is on none."""

KINDS = {
    "localisation": "right name, box too far off",
    "confusion": "right box, another name of its group",
    "novel_as_base": "novel object under a base name",
    "base_as_novel": "base object under a novel name",
    "both": "wrong name, and box too far off",
    "duplicate": "one object found once more",
    "background": "nothing is there",
    "missed": "object with no detection on or near it",
}
"""Kind of mistake to what it is, in words. Of overlaps with several objects the first that applies counts: own name at
IoU 0.5, other name at 0.5, own name at 0.1, other name at 0.1."""

_ORDER = tuple(KINDS)
_FINDS = ("localisation", "confusion", "novel_as_base", "base_as_novel")  # that nearly found an object
RIGHT, IGNORED = -1, -2  # of `Judged.kinds`


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections on pictures with truth.

    Attributes:
        kinds: (N,) place in `KINDS`; -1 right; -2 not counted: beyond the limit, in a crowd, or of a class of which
            LVIS does not say whether the picture has it.
        objects: (N,) row of the truth's object that the detection is on or near; -1 none.
        counted: (M,) bool: the truth's objects that are to be found, which crowds are not.
    """

    kinds: NDArray[np.int8]
    objects: NDArray[np.int64]
    counted: NDArray[np.bool_]

    def missed(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which objects these detections neither find nor nearly find, (M,)."""
        hit = np.isin(self.kinds, [RIGHT, *map(_ORDER.index, _FINDS)]) & rows
        missed = self.counted.copy()
        missed[self.objects[hit]] = False
        return missed


def judge(protocol: str, truth: Truth, found: BoxArrays, classes: ClassList) -> Judged:
    """Tell what each detection is, matched as the protocol does it: surest first, at IoU 0.5.

    Arguments are those of `measure`, of all classes.
    """
    federated, novel = protocol.startswith("federated"), classes.ids_of(classes.novel_names)
    objects, there = truth.objects, _counting(protocol, truth, found)
    counted = np.ones(len(objects), bool) if federated else ~objects.crowds
    kinds, about = np.full(len(found), IGNORED, np.int8), np.full(len(found), -1, np.int64)
    rows_of = [_by_image(side, rows) for side, rows in ((found, there), (objects, np.arange(len(objects))))]
    for image in truth.images:
        rows, true = (of.get(image["id"], np.zeros(0, np.int64)) for of in rows_of)
        if federated:
            labelled = [*image["neg_category_ids"], *objects.category_ids[true].tolist()]
            rows = rows[np.isin(found.category_ids[rows], labelled)]
        if len(rows):
            unsure = image.get("not_exhaustive_category_ids", ()) if federated else ()
            whole, crowds = true[counted[true]], true[~counted[true]]
            kinds[rows], about[rows] = _judge(
                found.take(rows), objects.take(whole), objects.take(crowds), unsure, novel
            )
            on = rows[about[rows] >= 0]
            about[on] = whole[about[on]]
    return Judged(kinds, about, counted)


def _counting(protocol: str, truth: Truth, found: BoxArrays) -> NDArray[np.int64]:
    """Return the rows that count, by image and falling score: of each image (COCO: and class) the protocol's most."""
    groups = found.image_ids
    if not protocol.startswith("federated"):
        _, groups = np.unique(np.stack([found.image_ids, found.category_ids]), axis=1, return_inverse=True)
    order = np.lexsort((-found.scores, groups))
    rank = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
    kept = np.sort(order[rank < PROTOCOLS[protocol].max_detections])
    if protocol == "federated_labelled":
        kept = kept[np.isin(found.image_ids[kept], truth.objects.image_ids)]
    return kept[np.lexsort((-found.scores[kept], found.image_ids[kept]))]


def _by_image(boxes: BoxArrays, rows: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    rows = rows[np.argsort(boxes.image_ids[rows], kind="stable")]
    ids, starts = np.unique(boxes.image_ids[rows], return_index=True)
    return dict(zip(ids.tolist(), np.split(rows, starts[1:]), strict=True)) if len(ids) else {}


def _judge(
    found: BoxArrays, true: BoxArrays, crowds: BoxArrays, unsure: Sequence[int], novel: frozenset[int]
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return kinds and objects, rows of ``true``, of one picture's detections, the surest first."""
    kinds, about = (np.full(len(found), fill, kind) for fill, kind in ((RIGHT, np.int8), (-1, np.int64)))
    near = overlaps(_corners(found), _corners(true)) if len(true) else np.zeros((len(found), 1))
    ids = true.category_ids if len(true) else np.array([-1])
    same = found.category_ids[:, None] == ids
    own, other, taken = near * same, near * ~same, np.zeros(len(ids), bool)
    for row in np.flatnonzero(own.max(axis=1) >= FOREGROUND):
        free = np.where(taken, -1.0, own[row])
        best = len(free) - 1 - int(free[::-1].argmax())  # of equal ones the last, as in COCOeval
        if free[best] >= FOREGROUND:
            taken[best], about[row] = True, best
    wrong = about < 0
    cases = (
        (own, FOREGROUND, "duplicate"),
        (other, FOREGROUND, "confusion"),
        (own, BACKGROUND, "localisation"),
        (other, BACKGROUND, "both"),
        (near, -1.0, "background"),
    )
    for table, least, kind in cases:
        rows = wrong & (table.max(axis=1) >= least)
        kinds[rows], wrong = _ORDER.index(kind), wrong & ~rows
        if kind != "background":
            about[rows] = table[rows].argmax(axis=1)
    mixed = np.isin(found.category_ids, list(novel)), np.isin(ids, list(novel))[about]
    across = (kinds == _ORDER.index("confusion")) & (mixed[0] != mixed[1])
    kinds[across] = np.where(mixed[1], _ORDER.index("novel_as_base"), _ORDER.index("base_as_novel"))[across]
    # What is not right is not judged in a crowd of its class, nor where more of its class may be.
    kinds[(kinds != RIGHT) & (np.isin(found.category_ids, unsure) | _crowded(found, crowds))] = IGNORED
    return kinds, about


def _crowded(found: BoxArrays, crowds: BoxArrays) -> NDArray[np.bool_]:
    """Return which detections lie by half of their own area or more in a crowd of their class."""
    if not len(crowds):
        return np.zeros(len(found), bool)
    boxes, places = _corners(found)[:, None], _corners(crowds)[None]
    sides = np.minimum(boxes[..., 2:], places[..., 2:]) - np.maximum(boxes[..., :2], places[..., :2])
    area = found.boxes[:, 2:].prod(axis=1)[:, None]
    inside = sides.clip(0).prod(axis=2) >= FOREGROUND * np.maximum(area, 1e-9)
    return (inside & (found.category_ids[:, None] == crowds.category_ids)).any(axis=1)


def _corners(boxes: BoxArrays) -> NDArray[np.float64]:
    return np.concatenate([boxes.boxes[:, :2], boxes.boxes[:, :2] + boxes.boxes[:, 2:]], axis=1)


def error_numbers(judged: Judged, truth: Truth, found: BoxArrays, classes: ClassList) -> dict[str, Any]:
    """Measure what each kind of mistake costs, and how many there are among the surest detections.

    Returns:
        ``ap50`` by group of classes (base, novel, all), the protocol's own; ``ap50_lost``: kind to, by group, what
        AP50 would gain if there were no mistake of the kind and all others stayed: what nearly finds an object that
        nothing finds would find it, any other one would not be there, and a missed object neither (the gains do not
        add up to what is missing); ``surest``: of as many detections as there are objects, the surest, ``detections``,
        the least ``score``, how many are ``right``, how many of each kind, and the missed objects. A mean over no class
        is None.
    """
    ids = np.array(truth.category_ids)
    labels, true = np.searchsorted(ids, found.category_ids), np.searchsorted(ids, truth.objects.category_ids)
    groups = {name: np.isin(ids, list(classes.ids_of(members))) for name, members in classes.groups.items()}
    kept, right = judged.kinds != IGNORED, judged.kinds == RIGHT
    missed = judged.missed(kept)
    order = np.lexsort((-found.scores, found.image_ids))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))

    def measured(
        labels: NDArray[np.int64], right: NDArray[np.bool_], kept: NDArray[np.bool_], wanted: NDArray[np.bool_]
    ) -> dict[str, float | None]:
        rows = np.flatnonzero(kept)
        rows = rows[np.lexsort((rank[rows], -found.scores[rows], labels[rows]))]
        by_class = _average_precisions(labels[rows], right[rows], np.bincount(true[wanted], minlength=len(ids)))
        return {name: _mean(by_class[members]) for name, members in groups.items()}

    whole = measured(labels, right, kept, judged.counted)
    lost: dict[str, dict[str, float | None]] = {}
    for place, kind in enumerate(_ORDER):
        rows, mended = judged.kinds == place, np.zeros(len(found), bool)
        if kind in _FINDS:
            mended[_first_on_free(judged, found, np.flatnonzero(rows))] = True
        new = np.where(mended, true[judged.objects] if len(true) else labels, labels)
        wanted = judged.counted & ~missed if kind == "missed" else judged.counted
        without = measured(new, right | mended, kept & (~rows | mended), wanted)
        lost[kind] = {name: None if None in (was, whole[name]) else was - whole[name] for name, was in without.items()}
    return {"ap50": whole, "ap50_lost": lost, "surest": _surest(judged, found)}


def _first_on_free(judged: Judged, found: BoxArrays, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, of each object that nothing finds, the surest of these detections."""
    rows = rows[np.argsort(-found.scores[rows], kind="stable")]
    objects, first = np.unique(judged.objects[rows], return_index=True)
    return rows[first[~np.isin(objects, judged.objects[judged.kinds == RIGHT])]]


def _average_precisions(
    labels: NDArray[np.int64], right: NDArray[np.bool_], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each class's AP as COCOeval: the mean of interpolated precision at 101 recalls; NaN without objects.

    ``labels`` are sorted, and of one class the surest come first.
    """
    result, steps = np.full(len(counts), np.nan), np.linspace(0, 1, 101)
    starts = np.searchsorted(labels, np.arange(len(counts) + 1))
    for label in np.flatnonzero(counts):
        hits = np.cumsum(right[starts[label] : starts[label + 1]])
        precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
        places = np.searchsorted(hits / counts[label], steps, side="left")
        result[label] = np.append(precision, 0.0)[places].mean()
    return result


def _mean(values: NDArray[np.float64]) -> float | None:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def _surest(judged: Judged, found: BoxArrays) -> dict[str, Any]:
    rows = _sure(judged, found)
    kinds = judged.kinds[rows]
    counts = {kind: int((kinds == place).sum()) for place, kind in enumerate(_ORDER)}
    least = float(found.scores[rows].min()) if rows.any() else None
    counts["missed"] = int(judged.missed(rows).sum())
    return {"detections": len(kinds), "score": least, "right": int((kinds == RIGHT).sum()), **counts}


def _sure(judged: Judged, found: BoxArrays) -> NDArray[np.bool_]:
    """Return which detections are the surest, as many as there are objects: models' scores have scales of their own."""
    rows, sure = np.flatnonzero(judged.kinds != IGNORED), np.zeros(len(found), bool)
    sure[rows[np.argsort(-found.scores[rows], kind="stable")[: judged.counted.sum()]]] = True
    return sure


def worst_examples(judged: Judged, truth: Truth, found: BoxArrays, classes: ClassList, most: int) -> Iterator[dict]:
    """Yield the surest mistakes of each kind, and the largest missed objects, from as many pictures.

    Yields:
        kind, picture (its file, from the folder of the images), and where there are any, ``found`` (name, box, score)
        and ``object`` (name, box), boxes as (x, y, width, height).
    """
    names = dict(zip(classes.ids, classes.names, strict=True))
    pictures = {image["id"]: image for image in truth.images}
    missed = judged.missed(_sure(judged, found))
    for place, kind in enumerate(_ORDER):
        side, worth = (truth.objects, truth.objects.areas) if kind == "missed" else (found, found.scores)
        rows = np.flatnonzero(missed if kind == "missed" else judged.kinds == place)
        rows = rows[np.argsort(-worth[rows], kind="stable")]
        _, first = np.unique(side.image_ids[rows], return_index=True)
        for row in rows[np.sort(first)[:most]].tolist():
            example = {"kind": kind, "picture": picture_name(pictures[int(side.image_ids[row])])}
            on = row if kind == "missed" else int(judged.objects[row])
            if kind != "missed":
                example["found"] = {**_named(found, row, names), "score": float(found.scores[row])}
            yield example | ({"object": _named(truth.objects, on, names)} if on >= 0 else {})


def _named(boxes: BoxArrays, row: int, names: Mapping[int, str]) -> dict[str, Any]:
    return {"name": names[int(boxes.category_ids[row])], "box": boxes.boxes[row].tolist()}
