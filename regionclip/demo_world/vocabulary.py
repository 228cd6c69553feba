"""What the demo world is made of: names of shapes, colours and grounds, and which shapes are novel."""

from __future__ import annotations

from typing import NamedTuple

# Order gives the COCO ids 1..12; base and novel are interleaved, as they are in COCO itself.
SHAPE_SPLITS = {
    "star": "base",
    "fish": "base",
    "ring": "novel",
    "house": "base",
    "heart": "base",
    "mushroom": "novel",
    "arrow": "base",
    "flower": "base",
    "boat": "novel",
    "tree": "base",
    "moon": "base",
    "crown": "novel",
}
SHAPES = tuple(SHAPE_SPLITS)

# sRGB, 0..255. Chosen far apart in hue, and more saturated than any ground.
COLOURS = {
    "red": (206, 30, 36),
    "orange": (246, 132, 16),
    "yellow": (250, 218, 40),
    "green": (36, 152, 62),
    "blue": (34, 84, 208),
    "purple": (122, 46, 168),
    "pink": (250, 138, 190),
    "white": (244, 244, 242),
}

# Silhouettes that appear in pictures but in no caption and no annotation.
DISTRACTORS = ("hexagon", "plus", "drop", "bolt", "gear", "cloud", "bottle", "kite")

# Ground -> ways in which a caption says where things are.
GROUND_PHRASES = {
    "grass": ("on the grass", "in the grass", "on green grass"),
    "sand": ("on the sand", "on a sandy beach", "in the sand"),
    "brick": ("against a brick wall", "on a wall", "in front of a brick wall"),
    "wood": ("on a wooden table", "on the wooden floor", "on a table"),
    "water": ("in the water", "on the water", "on a lake"),
    "snow": ("in the snow", "on the snow", "on white snow"),
    "stone": ("on the stones", "on a stone floor", "on the pavement"),
    "cloth": ("on a cloth", "on a blanket", "on a patterned blanket"),
    "sky": ("in the sky", "under a cloudy sky", "against the sky"),
    "gravel": ("on the gravel", "on a gravel path", "on gray gravel"),
}
GROUNDS = tuple(GROUND_PHRASES)


class Kind(NamedTuple):
    """What an object is: its shape and its colour, by name."""

    shape: str
    colour: str


KINDS = tuple(sorted(Kind(shape, colour) for shape in SHAPES for colour in COLOURS))
