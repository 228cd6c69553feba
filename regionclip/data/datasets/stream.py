"""Endless shuffled stream over a data set, where a position alone decides the image and every random choice."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset, Sampler


class ShuffledStream:
    """Maps positions 0, 1, 2, ... to (epoch, index), each epoch a permutation of its own.

    What a position gives depends on nothing but the seed: not on workers, nor on where a training resumed.

    Args:
        size: Images in the data set.
        seed: Seed of the permutations and of `rng`.
        tall: Bool (size,): images that are not wider than high. Given with ``batch``, each ``batch`` positions in a row
            are all tall or all not, but for those at either end of an epoch.
        batch: Positions of one step.
    """

    def __init__(self, size: int, seed: int, tall: np.ndarray | None = None, batch: int = 1) -> None:
        self.size, self.seed = size, seed
        self.tall, self.batch = tall, batch
        self._cached: tuple[int, np.ndarray] | None = None

    def locate(self, position: int) -> tuple[int, int]:
        """Return (epoch, index) of a position."""
        epoch, place = divmod(int(position), self.size)
        if self._cached is None or self._cached[0] != epoch:
            # No image has the index `size`, so the order shares its generator with no image.
            order = self.rng(epoch, self.size).permutation(self.size)
            self._cached = epoch, order if self.tall is None else self._grouped(order, -epoch * self.size % self.batch)
        return epoch, int(self._cached[1][place])

    def _grouped(self, order: np.ndarray, head: int) -> np.ndarray:
        """Return ``order`` with batches of one kind, in the order in which they fill up, behind the first ``head``.

        These complete the batch that the epoch before began. They and the end of the epoch are what fills no batch.
        """
        batches, rest = [], []
        for kind in (False, True):
            places = np.flatnonzero(self.tall[order] == kind)
            whole = len(places) // self.batch * self.batch
            batches += list(places[:whole].reshape(-1, self.batch))
            rest.append(places[whole:])
        batches.sort(key=lambda places: places[-1])
        if batches and sum(map(len, rest)) < head:
            rest.append(batches.pop())
        left = np.concatenate(rest)
        return order[np.concatenate([left[:head], *batches, left[head:]])]

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        """Return the generator for all random choices about image ``index`` in ``epoch``."""
        return np.random.default_rng((self.seed, epoch, index))


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler[int]):
    """Yield ``start + rank``, ``start + rank + world size``, ... without end: the positions of one process.

    They are no indices: the data set turns a position into an image with `ShuffledStream`.
    `ResumableIterBasedTrainLoop` sets ``start`` before it makes the iterator.

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


@DATASETS.register_module()
class StreamDataset(Dataset):
    """Any indexed data set (such as ``CocoDataset``) read by stream positions, for `ResumableSampler`.

    MMDetection's transforms draw from the global generators. They are seeded for each record and put back after it.

    Args:
        dataset: The data set, or its configuration.
        seed: Seed of the order and of the transforms.
        group: Pictures of a step (of all processes), which are to be all wide or all tall; None: in any order.
    """

    def __init__(self, dataset: Any, seed: int, group: int | None = None) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        tall = None
        if group is not None:
            # As Detectron2 parts them; the records of MMDetection's data sets have the size.
            records = (self.dataset.get_data_info(index) for index in range(len(self.dataset)))
            tall = np.array([record["width"] <= record["height"] for record in records])
        self.stream = ShuffledStream(len(self.dataset), seed, tall, group or 1)

    @property
    def metainfo(self) -> dict[str, Any]:
        """What the data set says about itself (classes, ...)."""
        return getattr(self.dataset, "metainfo", {})

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        """Return the record at a position of the endless stream."""
        epoch, index = self.stream.locate(position)
        states = random.getstate(), np.random.get_state()  # noqa: NPY002  (the generator that MMDetection reads)
        seed = int(self.stream.rng(epoch, index).integers(2**32))
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            return self.dataset[index]
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
