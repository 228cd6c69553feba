"""Random generators of the demo world: one for each picture, so that the order of work cannot change a byte."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """Return the generator of picture ``index`` of set ``name``."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index])


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """Draw one of ``options``; several times faster than ``Generator.choice``."""
    return options[int(rng.integers(len(options)))]
