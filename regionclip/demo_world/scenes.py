"""Scenes of the demo world: several objects on one ground, some of them half hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regionclip.demo_world.camera import expose, jpeg, litter
from regionclip.demo_world.grounds import paint_ground
from regionclip.demo_world.seeding import generator, pick
from regionclip.demo_world.sprites import Sprite, box_of, overlap, paste, polygons_of, render_sprite
from regionclip.demo_world.vocabulary import COLOURS, DISTRACTORS, GROUNDS, Kind

_LEAST_VISIBLE = 0.55
_LEAST_INSIDE = 0.85
_TRIES = 40


class SceneTask(NamedTuple):
    """All that decides one scene."""

    seed: int
    name: str
    index: int
    kinds: tuple[Kind, ...]
    side: int
    object_size: tuple[int, int]
    distractors: tuple[int, int]
    quality: int


@dataclass
class SceneObject:
    """An object as annotated.

    Attributes:
        kind: Shape and colour.
        box: (x, y, width, height) of the visible pixels.
        area: Number of visible pixels.
        visible: ``area`` as a fraction of the whole object.
        polygons: COCO polygons of the visible pixels.
        behind: Indices of the objects that hide part of this one.
    """

    kind: Kind
    box: tuple[int, int, int, int]
    area: int
    visible: float
    polygons: list[list[float]]
    behind: list[int]


@dataclass
class SceneRecord:
    """A drawn scene: the JPEG, the ground's name and the objects, back to front."""

    jpeg: bytes
    ground: str
    objects: list[SceneObject]


class _Stage:
    """The picture under construction and, for each pixel, the number of the thing on top (-1: ground)."""

    def __init__(self, image: NDArray[np.float32]) -> None:
        self.image = image
        self.top = np.full(image.shape[:2], -1, np.int16)
        self.areas: list[int] = []
        self.hides: list[set[int]] = []  # for each thing: the things that it lies on

    def place(self, rng: np.random.Generator, sprite: Sprite) -> bool:
        """Paste the sprite where everything stays visible enough; False if no place was found."""
        for _ in range(_TRIES):
            frame = self._frame(rng, sprite)
            if self._fits(rng, frame, sprite):
                paste(self.image, sprite, frame)
                inside, cut = overlap(self.top.shape[0], frame, sprite.alpha.shape)
                mask = sprite.mask[cut]
                self.hides.append({int(i) for i in np.unique(self.top[inside][mask])} - {-1})
                self.top[inside][mask] = len(self.areas)
                self.areas.append(int(sprite.mask.sum()))
                return True
        return False

    def _frame(self, rng: np.random.Generator, sprite: Sprite) -> tuple[int, int]:
        """Draw the patch's top left corner so that the object's box is in the picture, give or take a tenth."""
        x, y, width, height = box_of(sprite.mask)
        side = self.top.shape[0]
        left = rng.uniform(-0.08 * width, side - 0.92 * width) - x
        upper = rng.uniform(-0.08 * height, side - 0.92 * height) - y
        return int(left), int(upper)

    def _fits(self, rng: np.random.Generator, frame: tuple[int, int], sprite: Sprite) -> bool:
        inside, cut = overlap(self.top.shape[0], frame, sprite.alpha.shape)
        mask = sprite.mask
        if mask[cut].sum() < _LEAST_INSIDE * mask.sum():
            return False
        under = self.top[inside][mask[cut]]
        under = under[under >= 0]
        if not under.size:
            return True
        if rng.random() < 0.5:  # half of the overlaps would make a heap, not a scene
            return False
        hidden = np.bincount(under, minlength=len(self.areas))
        left = np.bincount(self.top[self.top >= 0], minlength=len(self.areas)) - hidden
        return bool((left >= _LEAST_VISIBLE * np.array(self.areas))[hidden > 0].all())


def render_scene(task: SceneTask) -> SceneRecord:
    """Draw one scene: the same task gives the same bytes in any process.

    An object that finds no place, even at the smallest size, is not in the picture nor in the record.
    """
    rng = generator(task.seed, task.name, task.index)
    ground = pick(rng, GROUNDS)
    stage = _Stage(litter(rng, paint_ground(rng, ground, task.side), 14))
    queue: list[Kind | None] = list(task.kinds)
    for _ in range(int(rng.integers(task.distractors[0], task.distractors[1] + 1))):
        queue.insert(int(rng.integers(len(queue) + 1)), None)
    placed = [kind for kind in queue if _add(rng, stage, kind, task.object_size)]
    numbers = [number for number, kind in enumerate(placed) if kind is not None]
    objects = []
    for number in numbers:
        mask = stage.top == number
        area = int(mask.sum())
        behind = [at for at, other in enumerate(numbers) if number in stage.hides[other]]
        visible = area / stage.areas[number]
        objects.append(SceneObject(placed[number], box_of(mask), area, visible, polygons_of(mask), behind))
    return SceneRecord(jpeg(expose(rng, stage.image), task.quality), ground, objects)


def _add(rng: np.random.Generator, stage: _Stage, kind: Kind | None, sizes: tuple[int, int]) -> bool:
    """Draw and place an object or, for None, a distractor; a smaller one where the first does not fit."""
    shape, colour = kind or (pick(rng, DISTRACTORS), pick(rng, tuple(COLOURS)))
    size = float(rng.uniform(*sizes))
    while not stage.place(rng, render_sprite(rng, shape, colour, size)):
        if size == sizes[0]:
            return False
        size = max(sizes[0], 0.8 * size)
    return True
