"""StepSeedHook: seeds every training step by its number, so that a resumed training repeats the uninterrupted one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet.models.task_modules.samplers import BaseSampler, SamplingResult
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from regionclip.engine.joint_batch import unwrapped


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed torch's and numpy's global generators before each iteration, and torch's before each picture is sampled.

    MMDetection samples anchors and regions from the global generators, whose state a checkpoint does not hold. What a
    picture gets depends on its position in the stream alone, so that any number of processes draws what one would.
    Seeds are derived from the run's and from the number of the iteration or picture.
    """

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._samplers: list[PictureSampler] = []

    def before_train(self, runner: Runner) -> None:
        """Seed the samplers of the model's heads."""
        for module in unwrapped(runner).modules():
            for name in ("sampler", "bbox_sampler"):
                if isinstance(getattr(module, name, None), BaseSampler):
                    self._samplers.append(PictureSampler(getattr(module, name), self.seed, runner.world_size))
                    setattr(module, name, self._samplers[-1])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the generators for iteration ``runner.iter``, alike in all processes."""
        state = np.random.SeedSequence([self.seed, runner.iter]).generate_state(2)
        np.random.seed(int(state[0]))  # noqa: NPY002  (MMDetection reads this generator)
        torch.manual_seed(int(state[1]))
        for sampler in self._samplers:
            joint_batch = runner.train_dataloader.batch_size * runner.world_size
            sampler.position = runner.iter * joint_batch + runner.rank


class PictureSampler:
    """A sampler of MMDetection that seeds torch's generator by the position of the picture it samples for.

    Heads call it once for each picture of a batch, in order. ``position`` in the endless stream is set at each step;
    two pictures of one process are ``stride`` apart.
    """

    def __init__(self, sampler: BaseSampler, seed: int, stride: int) -> None:
        self.sampler, self.seed, self.stride, self.position = sampler, seed, stride, 0

    def sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        """Sample for the next picture; arguments and result as in the sampler."""
        # The third number parts these seeds from those of iterations.
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.position, 1]).generate_state(1)[0]))
        self.position += self.stride
        return self.sampler.sample(*args, **kwargs)
