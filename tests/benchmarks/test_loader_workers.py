"""The table of helper processes: medians, and each round against its own training without helpers."""

from __future__ import annotations

from benchmarks.loader_workers import table


def test_ratios_are_within_a_round() -> None:
    lines = table({0: [1.0, 2.0, 4.0], 2: [1.5, 2.0, 6.0]}, 40).splitlines()
    assert lines[-2:] == ["| 0 | 2.000 | 1.00, 1.00, 1.00 |", "| 2 | 2.000 | 1.50, 1.00, 1.50 |"]
