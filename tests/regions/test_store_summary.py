"""The summary of a region store has the sizes and the coverage that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from regionclip.regions.store import RegionStore
from regionclip.regions.store_writer import RegionStoreWriter

BOX = np.array([[0, 0, 1, 1]], np.float32)


def test_size_and_coverage(tmp_path):
    """Masses 0.5, 0.75, 1.0, 1.0 over two shards: mean 0.8125, quantiles as counted."""
    masses = {1: [[0.25, 0.25], [0.5, 0.25]], 2: [[0.75, 0.25]], 3: [], 4: [[1.0, 0.0]]}
    with RegionStoreWriter(tmp_path / "s", {}, k=2, shard_rows=2) as writer:
        for image_id, probs in masses.items():
            n = len(probs)
            prob = np.array(probs).reshape(n, 2)
            writer.add(image_id, BOX.repeat(n, 0), np.zeros(n), np.zeros((n, 2), int), prob)
    summary = RegionStore.open(tmp_path / "s").summary()
    assert summary["images"] == 4 and summary["regions"] == 4
    assert summary["regions_per_image"] == {"mean": 1.0, "min": 0, "max": 2}
    assert summary["top_k_mass"] == {"mean": 0.8125, "q01": 0.5, "q05": 0.5, "q25": 0.5, "q50": 0.75, "q75": 1.0}
    arrows = sum(file.stat().st_size for file in (tmp_path / "s").glob("*.arrow"))
    assert summary["bytes"] == arrows


def test_quantiles_are_numpys(tmp_path):
    """On random masses the quantiles are those of NumPy, to a bin."""
    probs = np.random.default_rng(0).uniform(0, 1, (500, 1))
    with RegionStoreWriter(tmp_path / "s", {}, k=1) as writer:
        writer.add("a", BOX.repeat(500, 0), np.zeros(500), np.zeros((500, 1), int), probs)
    mass = RegionStore.open(tmp_path / "s").summary()["top_k_mass"]
    for q in (0.01, 0.05, 0.25, 0.5, 0.75):
        assert mass[f"q{round(q * 100):02d}"] == pytest.approx(
            np.quantile(probs, q, method="inverted_cdf"), abs=1.01e-4
        )


def test_stores_without_labels_or_images(tmp_path):
    """What cannot be counted is not there."""
    with RegionStoreWriter(tmp_path / "s", {}) as writer:
        writer.add(1, BOX, np.zeros(1))
    assert "top_k_mass" not in RegionStore.open(tmp_path / "s").summary()
    with RegionStoreWriter(tmp_path / "s", {}, k=1):
        pass
    assert RegionStore.open(tmp_path / "s").summary().keys() == {"images", "regions", "bytes"}
