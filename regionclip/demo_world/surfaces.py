"""Surfaces of objects: colour with jitter, a pattern that no caption names, and shading."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from regionclip.demo_world.seeding import pick
from regionclip.demo_world.vocabulary import COLOURS

Image = NDArray[np.float32]

PATTERNS = ("plain", "plain", "stripes", "dots", "checks", "gradient")


def jittered(rng: np.random.Generator, colour: str) -> NDArray[np.float32]:
    """Return the RGB of a colour by name, moved a little in every channel; a person would still give it that name."""
    return np.clip(np.array(COLOURS[colour], np.float32) * rng.uniform(0.9, 1.06) + rng.normal(0, 5, 3), 0, 255).astype(
        np.float32
    )


def pattern(rng: np.random.Generator, height: int, width: int) -> Image:
    """Return a brightness factor for each pixel, (height, width, 1), between about 0.7 and 1.1."""
    kind = pick(rng, PATTERNS)
    if kind == "plain":
        return np.ones((1, 1, 1), np.float32)
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32) - rng.uniform(0, 8)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    if kind == "gradient":
        value = u / max(height, width)
    else:
        wave = 2 * np.pi / (rng.uniform(0.16, 0.3) * max(height, width))
        along, across = np.sin(wave * u), np.sin(wave * v)
        value = {"stripes": along, "checks": 2 * along * across, "dots": 2 * (along + across) - 2}[kind]
    return (1 - rng.uniform(0.14, 0.24) * (np.clip(1.6 * value, -1, 1)[..., None] * 0.5 + 0.5)).astype(np.float32)


def shading(rng: np.random.Generator, alpha: Image, size: float) -> Image:
    """Return a brightness factor (H, W, 1) that makes the silhouette ``alpha`` (H, W) look thick, lit from above."""
    height = cv2.GaussianBlur(alpha, (0, 0), max(size * 0.07, 0.8))
    light = rng.uniform(np.pi * 1.1, np.pi * 1.9)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) * np.cos(light) + cv2.Sobel(height, cv2.CV_32F, 0, 1) * np.sin(light)
    return np.clip(1 - slope * rng.uniform(0.02, 0.05) * size**0.5, 0.65, 1.3)[..., None]
