"""Single-object pictures with one caption each: what the teacher learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from regionclip.demo_world.camera import expose, jpeg, litter
from regionclip.demo_world.captions import pair_caption
from regionclip.demo_world.grounds import paint_ground
from regionclip.demo_world.seeding import generator, pick
from regionclip.demo_world.sprites import Sprite, box_of, paste, render_sprite
from regionclip.demo_world.vocabulary import COLOURS, DISTRACTORS, GROUNDS, SHAPES, Kind

# Longer side of the object in sides of the picture: it fills it, as in the pictures that people put on the web.
_FILL = (0.7, 1.0)


class PairTask(NamedTuple):
    """All that decides one single-object picture."""

    seed: int
    name: str
    index: int
    side: int
    quality: int


@dataclass
class Pair:
    """A single-object picture: the JPEG, what it shows, what its caption says."""

    jpeg: bytes
    kind: Kind
    caption: str


def render_pair(task: PairTask) -> Pair:
    """Draw one single-object picture: the same task gives the same bytes in any process."""
    rng = generator(task.seed, task.name, task.index)
    kind, ground = Kind(pick(rng, SHAPES), pick(rng, tuple(COLOURS))), pick(rng, GROUNDS)
    image = litter(rng, paint_ground(rng, ground, task.side), 5)
    if rng.random() < 0.2:  # a piece of something else at the rim
        other = render_sprite(rng, pick(rng, DISTRACTORS), pick(rng, tuple(COLOURS)), task.side * rng.uniform(0.3, 0.5))
        angle = rng.uniform(0, 2 * np.pi)
        paste(image, other, _frame(other, task.side * (0.5 + 0.55 * np.array([np.cos(angle), np.sin(angle)]))))
    fill = rng.uniform(*_FILL)
    sprite = render_sprite(rng, *kind, task.side * fill)
    paste(image, sprite, _frame(sprite, _centre(rng, sprite, task.side)))
    return Pair(jpeg(expose(rng, image), task.quality), kind, pair_caption(rng, kind, ground, fill))


def _centre(rng: np.random.Generator, sprite: Sprite, side: int) -> np.ndarray:
    """Draw where the object's centre lies (x, y): near the middle, anywhere inside, or cut by the rim."""
    half = np.array(box_of(sprite.mask)[2:]) / 2
    room = side / 2 - half
    mode = rng.random()
    if mode < 0.4:
        return side / 2 + rng.uniform(-0.3, 0.3, 2) * room
    if mode < 0.8:
        return side / 2 + rng.uniform(-1, 1, 2) * room
    return side / 2 + rng.uniform(-1, 1, 2) * (room + 0.4 * half)


def _frame(sprite: Sprite, centre: np.ndarray) -> tuple[int, int]:
    x, y, width, height = box_of(sprite.mask)
    return int(centre[0] - x - width / 2), int(centre[1] - y - height / 2)
