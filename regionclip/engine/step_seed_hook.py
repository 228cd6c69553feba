"""StepSeedHook: seeds every training step by its number, so that a resumed training repeats the uninterrupted one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed torch's and numpy's global generators before each iteration.

    MMDetection samples anchors and regions from the global generators, whose state a checkpoint does not hold.

    Args:
        seed: The run's seed; each iteration uses a number derived from it and from the iteration.
    """

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the generators for iteration ``runner.iter`` of this process."""
        state = np.random.SeedSequence([self.seed, runner.iter, runner.rank]).generate_state(2)
        np.random.seed(int(state[0]))  # noqa: NPY002  (MMDetection reads this generator)
        torch.manual_seed(int(state[1]))
