"""Which objects each scene holds: equal shares of all kinds, or a long tail as in LVIS."""

from __future__ import annotations

import numpy as np

from regionclip.demo_world.seeding import generator, pick
from regionclip.demo_world.vocabulary import COLOURS, KINDS, SHAPES, Kind

_TWIN = 0.15  # chance that an object has the kind of the one before: "two red stars"
_HEAD = 30.0  # Zipf-Mandelbrot offset; without it the first class would be in nearly every picture
_RARE_RANK = 0.74  # classes from this quantile of ranks on are to be rare
_RARE_MOST = 10  # LVIS: rare classes are in at most 10 training images


def even_plan(seed: int, name: str, images: int, objects: tuple[int, int]) -> list[tuple[Kind, ...]]:
    """Draw the objects of every scene with equal chances for all shapes and all colours.

    A scene does not change when the set grows.
    """
    plan = []
    for index in range(images):
        rng = generator(seed, f"{name}/plan", index)
        kinds: list[Kind] = []
        for _ in range(int(rng.integers(objects[0], objects[1] + 1))):
            twin = bool(kinds) and rng.random() < _TWIN
            kinds.append(kinds[-1] if twin else Kind(pick(rng, SHAPES), pick(rng, tuple(COLOURS))))
        plan.append(tuple(kinds))
    return plan


def long_tail_plan(
    seed: int, name: str, images: int, objects: tuple[int, int], factor: float
) -> list[tuple[Kind, ...]]:
    """Draw the objects of every scene so that about 28 % of the 96 classes are rare and each occurs at least once.

    The seed also fixes which classes are rare; ``factor`` scales LVIS's thresholds (10 and 100 training images).
    """
    rng = generator(seed, f"{name}/plan")
    sizes = _sizes(rng, name, images, objects)
    exponent = _exponent(int(sizes.sum()), factor)
    return _deal(rng, sizes, _counts(int(sizes.sum()), exponent, least=1), ranking(seed))


def flat_plan(seed: int, name: str, images: int, objects: tuple[int, int]) -> list[tuple[Kind, ...]]:
    """Draw the objects of every scene with a weak tail, so that rare classes too can be measured."""
    rng = generator(seed, f"{name}/plan")
    sizes = _sizes(rng, name, images, objects)
    total = int(sizes.sum())
    return _deal(rng, sizes, _counts(total, 0.5, least=max(1, min(9, total // len(KINDS)))), ranking(seed))


def ranking(seed: int) -> tuple[Kind, ...]:
    """Return the 96 classes from the most frequent to the rarest."""
    return tuple(KINDS[i] for i in generator(seed, "lvis/ranking").permutation(len(KINDS)))


def _sizes(rng: np.random.Generator, name: str, images: int, objects: tuple[int, int]) -> np.ndarray:
    """Draw the number of objects of every scene; raise some to the most where the sum is below 96.

    The check of the params has made sure that the scenes can hold so many.
    """
    sizes = rng.integers(objects[0], objects[1] + 1, images)
    for i in range(images):
        if sizes.sum() >= len(KINDS):
            break
        sizes[i] = objects[1]
    return sizes


def _shares(exponent: float) -> np.ndarray:
    weights = (np.arange(len(KINDS)) + 1 + _HEAD) ** -exponent
    return weights / weights.sum()


def _exponent(total: int, factor: float) -> float:
    """Find the exponent at which the first rare rank has as many objects as a rare class may have images."""
    rank = int(_RARE_RANK * len(KINDS))
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _shares(middle)[rank] * total > _RARE_MOST * factor else (low, middle)
    return low


def _counts(total: int, exponent: float, least: int) -> np.ndarray:
    """Return the number of objects of each rank: at least ``least``, ``total`` in all."""
    counts = np.maximum(np.floor(_shares(exponent) * total).astype(int), least)
    order = 0
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        if step > 0 or counts[order] > least:
            counts[order] += step
        order = (order + 1) % (len(counts) // 2 if step > 0 else len(counts))
    return counts


def _deal(
    rng: np.random.Generator, sizes: np.ndarray, counts: np.ndarray, ranks: tuple[Kind, ...]
) -> list[tuple[Kind, ...]]:
    cards = rng.permutation(np.repeat(np.arange(len(ranks)), counts))
    hands = np.split(cards, np.cumsum(sizes)[:-1])
    return [tuple(ranks[i] for i in sorted(hand, reverse=True)) for hand in hands]
