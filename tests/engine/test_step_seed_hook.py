"""Every training step draws the same numbers, wherever the training began and however many processes there are."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from mmdet.models.task_modules.samplers import RandomSampler
from torch import nn

from regionclip.engine.training import StepSeedHook


def _drawn(seed: int, iteration: int, rank: int = 0) -> tuple[float, float]:
    """The first numbers that MMDetection would draw in a step."""
    StepSeedHook(seed).before_train_iter(SimpleNamespace(iter=iteration, rank=rank), batch_idx=0)
    return float(torch.rand(1)), float(np.random.rand())  # noqa: NPY002  (MMDetection reads this generator)


def test_same_step_draws_the_same_in_every_process() -> None:
    first = _drawn(0, 7)
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002
    assert _drawn(0, 7) == first == _drawn(0, 7, rank=1)


def test_another_step_or_seed_draws_other_numbers() -> None:
    drawn = [_drawn(0, 7), _drawn(0, 8), _drawn(1, 7), _drawn(7, 0)]
    assert len({torch_part for torch_part, _ in drawn}) == len({numpy_part for _, numpy_part in drawn}) == 4


class Drawing(RandomSampler):
    """Returns the number that it would draw."""

    def __init__(self) -> None:
        super().__init__(num=1, pos_fraction=0.5)

    def sample(self) -> float:
        return float(torch.rand(1))


def _pictures(rank: int, processes: int, batch: int, steps: tuple[int, ...] = (0, 1, 2)) -> list[float]:
    """What a process's sampler draws for its pictures, the first step first."""
    head = nn.Module()
    head.bbox_sampler = Drawing()
    runner = SimpleNamespace(
        model=head, rank=rank, world_size=processes, train_dataloader=SimpleNamespace(batch_size=batch)
    )
    hook = StepSeedHook(3)
    hook.before_train(runner)
    drawn = []
    for runner.iter in steps:
        hook.before_train_iter(runner, batch_idx=0)
        drawn += [head.bbox_sampler.sample() for _ in range(batch)]
    return drawn


def test_regions_are_sampled_by_position_not_by_process() -> None:
    """Positions 0 to 11 in three steps of four: two processes draw, between them, what one does."""
    alone = _pictures(0, 1, batch=4)
    first, second = _pictures(0, 2, batch=2), _pictures(1, 2, batch=2)
    assert len(set(alone)) == 12
    assert [number for pair in zip(first, second, strict=True) for number in pair] == alone


def test_resumed_steps_sample_the_same() -> None:
    assert _pictures(0, 1, batch=4, steps=(2,)) == _pictures(0, 1, batch=4)[8:]
