"""ResumableSampler: gives every process its positions of one endless stream, from any start."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sized

from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler[int]):
    """Yield ``start + rank``, ``start + rank + world size``, ... without end.

    It yields positions, not indices: the data set turns a position into an image with `ShuffledStream`, which also
    holds the seed. `ResumableIterBasedTrainLoop` sets ``start`` before it makes the iterator.

    Args:
        dataset: A data set that is read by positions.
        seed: Taken because MMEngine's Runner gives one to every sampler; the order comes from the data set's seed.
        start: Position of the first record of the first process.
    """

    def __init__(self, dataset: Sized, seed: int | None = None, start: int = 0) -> None:
        self.dataset, self.start = dataset, start
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start + self.rank, self.world_size)

    def __len__(self) -> int:
        """Images in the data set (one epoch of all processes together), as in MMEngine's ``InfiniteSampler``."""
        return len(self.dataset)
