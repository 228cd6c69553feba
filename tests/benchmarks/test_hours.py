"""GPU hours by hand: pictures over the rate, slower for the larger model; the measured GPU has its own."""

from __future__ import annotations

import pytest

from benchmarks.hours import hours
from tests.conftest import profile_params


def test_hours_of_a_transfer() -> None:
    """90,000 iterations of 16 pictures at 0.551 s on eight V100 are 8 x 13.8 hours."""
    (row,) = hours(profile_params("transfer_coco48_rn50"))
    assert (row.stage, row.pictures, row.here) == ("finetune@coco", 1_440_000, None)
    assert row.v100 == pytest.approx(90_000 * 0.551 * 8 / 3600)


def test_hours_of_pretraining_are_the_authors() -> None:
    """32 V100 for 6 days; at 100 pictures a second here the 57.6 million take 160 hours."""
    measured = {"works": {"pretraining_joint": {"images_per_second": 100.0}}}
    row = next(row for row in hours(profile_params("pretrain_cc3m_rn50"), measured) if row.stage == "pretrain")
    assert row.v100 == pytest.approx(32 * 6 * 24) and row.here == pytest.approx(160)
