"""Summary of a region store: its size, and how much of the teacher's probability the top k keep."""

from __future__ import annotations

from typing import Any

import numpy as np

from regionclip.regions.store import RegionStore

_BINS = 10_000
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75)


def summarise(store: RegionStore) -> dict[str, Any]:
    """Return size and coverage of a store, read shard by shard in flat memory.

    Returns:
        ``images``, ``regions``, ``bytes``, ``regions_per_image`` (mean, min, max); with k > 0 and a region also
        ``top_k_mass``, the sum of a region's k probabilities over all regions: ``mean`` and the quantiles ``q01``,
        ``q05``, ``q25``, ``q50``, ``q75``, to 1 / 10,000.
    """
    histogram, total, fewest, most = np.zeros(_BINS + 1, np.int64), 0.0, np.inf, 0
    for shard in store.shards():
        if shard.rows:
            fewest, most = min(fewest, int(shard.counts.min())), max(most, int(shard.counts.max()))
        if store.k:
            mass = shard.all_regions().concept_prob.sum(axis=1, dtype=np.float64)
            total += float(mass.sum())
            # Rounded probabilities may sum to a little over one.
            histogram += np.bincount((mass.clip(0, 1) * _BINS).astype(np.int64), minlength=_BINS + 1)
    summary: dict[str, Any] = {"images": len(store), "regions": store.num_regions, "bytes": store.num_bytes}
    if len(store):
        mean = store.num_regions / len(store)
        summary["regions_per_image"] = {"mean": mean, "min": int(fewest), "max": most}
    if store.k and store.num_regions:
        cumulative = np.cumsum(histogram)
        places = {q: int(np.searchsorted(cumulative, q * cumulative[-1])) for q in _QUANTILES}
        quantiles = {f"q{round(100 * q):02d}": place / _BINS for q, place in places.items()}
        summary["top_k_mass"] = {"mean": total / store.num_regions, **quantiles}
    return summary
