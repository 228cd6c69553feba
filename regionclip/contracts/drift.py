"""Drift: how far the boxes of a split are from those of the training split or of an earlier run, in size and number."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regionclip.contracts.boxes import BoxTables
from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.errors import InputError
from regionclip.files import read_json

MOST = 0.25
"""Total variation distance, 0 (equal) to 1 (apart), above which a split is said to drift."""

_FEW = 200  # boxes of a split below which a histogram is mostly chance
_EDGES = {
    # Doublings, open at both ends: COCO's small, medium and large are 32 and 96 pixels.
    "size": [0, *2.0 ** np.arange(2, 11), np.inf],  # square root of width times height, in pixels
    "aspect": [0, *2.0 ** np.arange(-2.5, 3.0), np.inf],  # width / height
    "boxes_per_image": [1, 2, 4, 8, 16, 32, 64, np.inf],
}


def box_profile(tables: BoxTables, base: Collection[int]) -> dict[str, Any]:
    """Return what the boxes of a split look like: the counts of images and boxes, and three histograms as fractions.

    Only boxes of base classes count, and images that have one: a training split holds no others, so what is left of
    the other splits can be compared with it. Boxes without size are left out; another check finds them.
    """
    everything = tables.annotations
    boxes = everything[(everything["bbox_w"] > 0) & (everything["bbox_h"] > 0) & everything["category_id"].isin(base)]
    of_image = boxes["image_id"].value_counts()
    values = {
        "size": np.sqrt(boxes["bbox_w"] * boxes["bbox_h"]),
        "aspect": boxes["bbox_w"] / boxes["bbox_h"],
        "boxes_per_image": of_image,
    }
    counts = {name: np.histogram(values[name], bins=edges)[0] for name, edges in _EDGES.items()}
    shares = {name: (count / max(count.sum(), 1)).round(4).tolist() for name, count in counts.items()}
    return {"images": len(of_image), "boxes": len(boxes), **shares}


def drift_check(name: str, reference: str, profiles: Mapping[str, Mapping[str, Any]]) -> Check:
    """Return the check, a warning, that the other splits look like ``reference``; few boxes are not compared."""
    pairs = {split: (profiles[reference], profile) for split, profile in profiles.items() if split != reference}
    mend = "compare the profiles in box_profile.json"
    expect = Expect(f"the boxes differ from those of '{reference}'", mend, severity=WARNING)
    return _check(f"{name} drift", name, pairs, expect)


def earlier_check(name: str, file: Path, profiles: Mapping[str, Mapping[str, Any]]) -> Check:
    """Return the check, a warning, that each split looks like that of an earlier run.

    Args:
        name: The data set.
        file: ``box_profile.json`` of the earlier run.
        profiles: Split -> see `box_profile`.

    Raises:
        InputError: The file is absent, has nothing of this data set, or a split of it is no profile.
    """
    mend = "give box_profile.json of a run on this data set"
    content = read_json(file)
    earlier = content.get(name) if isinstance(content, dict) else None
    shared = [split for split in profiles if isinstance(earlier, dict) and split in earlier]
    if not shared:
        raise InputError("it has no profile of this data set", file=file, key=name, mend=mend)
    for split in shared:
        for key, wanted in {"boxes": None, **{key: len(edges) - 1 for key, edges in _EDGES.items()}}.items():
            value = earlier[split].get(key) if isinstance(earlier[split], dict) else None
            if not isinstance(value, int if wanted is None else list) or (wanted and len(value) != wanted):
                raise InputError("no box profile", file=file, record=split, key=key, mend=mend)
    pairs = {split: (earlier[split], profiles[split]) for split in shared}
    expect = Expect(f"the boxes differ from those of {file}", "look why", severity=WARNING)
    return _check(f"{name} drift from before", name, pairs, expect)


def _check(
    suite: str, file: str, pairs: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], expect: Expect
) -> Check:
    rows = [
        (split, statistic, distance(before[statistic], now[statistic]))
        for split, (before, now) in pairs.items()
        if min(before["boxes"], now["boxes"]) >= _FEW
        for statistic in _EDGES
    ]
    table = pd.DataFrame(rows, columns=["split", "statistic", "distance"]).assign(file=file)
    return Check(suite, table, ("file", "split", "statistic"), [expect.between("distance", most=MOST)])


def distance(first: list[float], second: list[float]) -> float:
    """Return the total variation distance of two histograms of fractions, 0 to 1."""
    return float(np.abs(np.subtract(first, second)).sum() / 2)
