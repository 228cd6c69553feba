"""Every training step draws the same numbers, wherever the training began."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from regionclip.engine.step_seed_hook import StepSeedHook


def _drawn(seed: int, iteration: int, rank: int = 0) -> tuple[float, float]:
    """The first numbers that MMDetection would draw in a step."""
    StepSeedHook(seed).before_train_iter(SimpleNamespace(iter=iteration, rank=rank), batch_idx=0)
    return float(torch.rand(1)), float(np.random.rand())  # noqa: NPY002  (MMDetection reads this generator)


def test_same_step_draws_the_same() -> None:
    first = _drawn(0, 7)
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002
    assert _drawn(0, 7) == first


def test_another_step_seed_or_process_draws_other_numbers() -> None:
    drawn = [_drawn(0, 7), _drawn(0, 8), _drawn(1, 7), _drawn(0, 7, rank=1), _drawn(7, 0)]
    assert len({torch_part for torch_part, _ in drawn}) == len({numpy_part for _, numpy_part in drawn}) == 5
