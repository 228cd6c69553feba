"""Region classification: top-1 and top-5 accuracy by groups of classes, over regions and as a mean over classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regionclip.errors import InputError
from regionclip.text.prompts import TEMPLATE_SETS

_VIEWS = {"roi_align": "RoIAligned", "crop": "cropped"}


def classify_regions(
    scores: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    groups: Mapping[str, Collection[str]],
    view: Literal["roi_align", "crop"],
    templates: Sequence[str],
) -> dict[str, Any]:
    """Measure how often the true class of a region is the best, or among the five best, of all classes.

    All classes compete, whatever the region's group (generalised protocol); no background does.

    Args:
        scores: (N, K) logits or probabilities of the classes, without the background. Equal scores rank by class index.
        labels: (N,) index of the true class.
        names: K class names.
        groups: Group name -> the names that belong to it; groups may overlap.
        view: What the encoder saw of a region: ``roi_align`` (features of the whole picture) or ``crop`` (pixels).
        templates: The prompt templates of the class names.

    Returns:
        Fractions 0..1: ``top1_{group}`` and ``top5_{group}`` over the group's regions; ``class_mean_top1_{group}`` and
        ``class_mean_top5_{group}``, the means over its classes that have regions; None for a group without regions.
        per_class {class: top-1}; regions {group: count}; protocol (words); recipe, without which two accuracies cannot
        be compared: view, templates (in words), background and classes (K).

    Raises:
        InputError: The shapes do not fit, a label is out of range, or a score is not finite.
    """
    table, true = np.asarray(scores), np.asarray(labels, dtype=np.int64)
    if table.ndim != 2 or table.shape != (len(true), len(names)):
        problem = f"scores {table.shape} do not fit {len(true)} labels and {len(names)} names"
        raise InputError(problem, mend="give one row a region and one column a class")
    if len(true) and (true.min() < 0 or true.max() >= len(names)):
        problem = f"labels {true.min()} to {true.max()} do not fit {len(names)} names"
        raise InputError(problem, mend="classify with the class list that the labels index")
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise InputError("a score is not finite", record=f"region {row}", mend="look for a diverged training")
    spoken, rank = np.asarray(names, dtype=object)[true].astype(str), _ranks(table, true)
    top1, words = _shares(spoken, rank < 1, groups, "top1"), _in_words(templates)
    return {
        **top1,
        "regions": {group: int(np.isin(spoken, list(members)).sum()) for group, members in groups.items()},
        "protocol": f"top-1 and top-5 of {_VIEWS[view]} regions over {len(names)} classes, background never the "
        f"answer; prompts: {words}; class_mean weighs every class alike",
        **_shares(spoken, rank < 5, groups, "top5"),
        "per_class": top1["per_class"],
        "recipe": {"view": view, "templates": words, "background": "none", "classes": len(names)},
    }


def _in_words(templates: Sequence[str]) -> str:
    """Name a template set of `regionclip.text.prompts`; of another one, say the number and the first."""
    known = next((name for name, members in TEMPLATE_SETS.items() if tuple(templates) == members), None)
    return f"'{known}'" if known else f"{len(templates)} templates, the first '{templates[0]}'"


def _ranks(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes come before the true one of each region, (N,)."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    return (scores > own).sum(axis=1) + ((scores == own) & before).sum(axis=1)


def _shares(
    true: NDArray[Any], right: NDArray[np.bool_], groups: Mapping[str, Collection[Any]], key: str
) -> dict[str, Any]:
    kinds, column = np.unique(true, return_inverse=True)
    share = np.bincount(column, weights=right, minlength=len(kinds)) / np.bincount(column, minlength=len(kinds))
    result: dict[str, Any] = {}
    for group, members in groups.items():
        chosen, classes = np.isin(true, list(members)), np.isin(kinds, list(members))
        result[f"{key}_{group}"] = float(right[chosen].mean()) if chosen.any() else None
        result[f"class_mean_{key}_{group}"] = float(share[classes].mean()) if chosen.any() else None
    return {**result, "per_class": dict(zip(kinds.tolist(), share.tolist(), strict=True))}
