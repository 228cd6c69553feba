"""Endless shuffled stream over a data set, where a position alone decides the image and every random choice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from torch.utils.data import Dataset


class ShuffledStream:
    """Maps positions 0, 1, 2, ... to (epoch, index), each epoch a permutation of its own.

    What a position gives depends on nothing but the seed: not on workers, nor on where a training resumed.

    Args:
        size: Images in the data set.
        seed: Seed of the permutations and of `rng`.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._cached: tuple[int, np.ndarray] | None = None

    def locate(self, position: int) -> tuple[int, int]:
        """Return (epoch, index) of a position."""
        epoch, place = divmod(int(position), self.size)
        if self._cached is None or self._cached[0] != epoch:
            # No image has the index `size`, so the order shares its generator with no image.
            self._cached = epoch, self.rng(epoch, self.size).permutation(self.size)
        return epoch, int(self._cached[1][place])

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        """Return the generator for all random choices about image ``index`` in ``epoch``."""
        return np.random.default_rng((self.seed, epoch, index))


@DATASETS.register_module()
class StreamDataset(Dataset):
    """Any indexed data set (such as ``CocoDataset``) read by stream positions, for `ResumableSampler`.

    MMDetection's transforms draw from the global generators. They are seeded for each record and put back after it.

    Args:
        dataset: The data set, or its configuration.
        seed: Seed of the order and of the transforms.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.stream = ShuffledStream(len(self.dataset), seed)

    @property
    def metainfo(self) -> dict[str, Any]:
        """What the data set says about itself (classes, ...)."""
        return getattr(self.dataset, "metainfo", {})

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        """Return the record at a position of the endless stream."""
        epoch, index = self.stream.locate(position)
        with _global_generators(self.stream.rng(epoch, index)):
            return self.dataset[index]


@contextmanager
def _global_generators(rng: np.random.Generator) -> Iterator[None]:
    """Seed ``random`` and ``numpy.random`` inside the block and put their states back after it."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  (the generator that MMDetection reads)
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
