"""ResumableIterBasedTrainLoop: resumes at the right place of the data without decoding what was trained on."""

from __future__ import annotations

import itertools

from mmengine.dist import get_world_size
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from regionclip.data.datasets.samplers import ResumableSampler


@LOOPS.register_module()
class ResumableIterBasedTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop, for a loader with `ResumableSampler`.

    On resume MMEngine draws and discards as many batches as were trained on, decoding them all. Here the sampler
    starts behind them, and what is drawn and discarded is empty.
    """

    def run(self) -> nn.Module:
        """Train from the current iteration to the last one."""
        sampler = self.dataloader.sampler
        if not isinstance(sampler, ResumableSampler):
            raise TypeError(f"ResumableIterBasedTrainLoop needs a ResumableSampler, got {type(sampler).__name__}")
        if self._iter > 0:
            sampler.start = self._iter * self.dataloader.batch_size * get_world_size()
            skipped = itertools.repeat(None, self._iter)
            self.dataloader_iterator = itertools.chain(skipped, iter(self.dataloader))
        return super().run()
