"""Contract of pseudo labels: boxes in their images, sane scores, concepts of the pool, enough regions kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regionclip.contracts.gx import WARNING, Check, Expect, check
from regionclip.contracts.regions import count_check, region_expectations, region_table

_BINS = 20  # of the confidence histogram
_LARGEST_SHARE = 0.5  # of one concept among the kept regions, above which the labels say little
_AGAIN = "run the stage `pseudo_labels` again"


@dataclass(frozen=True)
class Demands:
    """What a store of pseudo labels must satisfy.

    Attributes:
        pool_size: Number of concepts; an index is below it.
        threshold: Teacher probability above which a region is kept.
        min_kept_fraction: Least share of regions that are kept.
        max_regions: Most regions of an image.
        tolerance: Fraction of the images that may have no region, because they were set aside.
    """

    pool_size: int
    threshold: float
    min_kept_fraction: float
    max_regions: int
    tolerance: float = 0.0


def origin_check(store: Path, metadata: Mapping[str, str], wanted: Mapping[str, str]) -> Check:
    """Return the check that a store's metadata name the teacher, the text bank and the RPN that are there now."""
    rows = [(str(store), key, metadata.get(key, "unknown"), value) for key, value in wanted.items()]
    expect = Expect("the store was made with another teacher, text bank or RPN", _AGAIN, "made_with")
    table = pd.DataFrame(rows, columns=["file", "made_with", "found", "wanted"])
    return check("pseudo label origin", table, ("file", "made_with"), [expect.equal("found", "wanted")])


def pseudo_label_checks(store: Path, regions: pd.DataFrame, images: pd.DataFrame, demands: Demands) -> list[Check]:
    """Return the checks of a region store.

    Args:
        store: Its folder, for messages.
        regions: See `RegionStore.to_pandas`.
        images: One row an image that the store must hold: id, width, height (pixels).
        demands: Pool size and limits.
    """
    kept = (regions["top_prob"] > demands.threshold).astype(np.float64)
    table, lower = region_table(str(store), regions, images).assign(kept=kept), "lower pseudo_labels.proposals"
    return [
        check("pseudo label regions", table, ("file", "image_id", "region"), _region_expectations(demands)),
        count_check("pseudo label images", str(store), regions, images, demands.max_regions, lower, demands.tolerance),
        _concept_check(store, label_profile(regions, demands.threshold)["concepts"]),
    ]


def label_profile(regions: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """Return the histograms of a store of pseudo labels.

    Returns:
        ``confidence``: regions by the teacher's probability, in 20 equal bins of 0 to 1; ``concepts``: index of a
        concept -> kept regions with it, most frequent first.
    """
    confidence, _ = np.histogram(regions["top_prob"].clip(0, 1), bins=_BINS, range=(0, 1))
    kept = regions.loc[regions["top_prob"] > threshold, "top_concept"]
    counts = kept.value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")
    return {"confidence": confidence.tolist(), "concepts": {int(index): int(n) for index, n in counts.items()}}


def _concept_check(store: Path, concepts: dict[int, int]) -> Check:
    table = pd.DataFrame({"file": str(store), "concept": list(concepts), "regions": list(concepts.values())})
    table = table.assign(share=table["regions"] / max(table["regions"].sum(), 1))
    problem = f"more than {_LARGEST_SHARE:.0%} of the kept regions have one concept"
    expect = Expect(problem, "look at the teacher: it may see one thing everywhere", severity=WARNING)
    record = ("file", "concept", "regions")
    return check("pseudo label concepts", table, record, [expect.between("share", most=_LARGEST_SHARE)])


def _region_expectations(demands: Demands) -> list[Any]:
    kept = f"too few regions are above the threshold {demands.threshold:g}"
    lower = "train the teacher longer, or lower check_pseudo_labels.min_kept_fraction"
    outside = f"the index is outside the pool of {demands.pool_size} concepts"
    return [
        *region_expectations(_AGAIN, ("top_concept", "top_prob")),
        Expect("not a probability", _AGAIN).between("top_prob", 0, 1),
        Expect(outside, _AGAIN).between("top_concept", 0, demands.pool_size - 1),
        Expect(kept, lower).mean("kept", demands.min_kept_fraction),
    ]
