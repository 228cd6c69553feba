"""Files with faults of every kind: init, stage data, gate and loader agree; each box is used or has a reason."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzzing.annotations import run


@settings(max_examples=25)
@given(rng=st.randoms(use_true_random=False))
def test_file_is_trained_plus_reasons_whatever_is_in_it(tmp_path: Path, rng: random.Random) -> None:
    assert run(tmp_path, rng) in ("ok", "set aside", "refused")


@pytest.mark.slow
def test_many_more_of_them(tmp_path: Path) -> None:
    outcomes = {run(tmp_path, random.Random(seed)) for seed in range(500)}
    assert outcomes == {"ok", "set aside", "refused"}
