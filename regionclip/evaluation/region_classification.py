"""Region classification: top-1 accuracy by groups of classes, over regions and as a mean over classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from regionclip.errors import InputError


def top1_by_split(labels: ArrayLike, predictions: ArrayLike, groups: Mapping[str, Collection[Any]]) -> dict[str, Any]:
    """Measure how often the best class of a region is its true class.

    The prediction is over all classes, whatever the region's group (generalised protocol).

    Args:
        labels: (N,) true classes, as category ids or names.
        predictions: (N,) best classes, in the same terms.
        groups: Group name -> the classes that belong to it; groups may overlap.

    Returns:
        Fractions 0..1: ``top1_{group}`` over the group's regions; ``class_mean_top1_{group}``, the mean over its
        classes that have regions; both None for a group without regions. per_class {class: top-1};
        regions {group: count}; protocol (words).

    Raises:
        InputError: The lengths differ.
    """
    true, best = np.asarray(labels), np.asarray(predictions)
    if true.shape != best.shape or true.ndim != 1:
        raise InputError(
            f"labels {true.shape} and predictions {best.shape} do not pair up", mend="give one prediction a label"
        )
    right = true == best
    kinds, column = np.unique(true, return_inverse=True)
    share = np.bincount(column, weights=right, minlength=len(kinds)) / np.bincount(column, minlength=len(kinds))
    result: dict[str, Any] = {}
    regions: dict[str, int] = {}
    for group, members in groups.items():
        chosen, classes = np.isin(true, list(members)), np.isin(kinds, list(members))
        regions[group] = int(chosen.sum())
        result[f"top1_{group}"] = float(right[chosen].mean()) if regions[group] else None
        result[f"class_mean_top1_{group}"] = float(share[classes].mean()) if regions[group] else None
    return {
        **result,
        "per_class": dict(zip(kinds.tolist(), share.tolist(), strict=True)),
        "regions": regions,
        "protocol": "top-1 of regions over all classes; class_mean weighs every class alike",
    }
