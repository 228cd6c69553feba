"""Draws a small data set in COCO's form, unlike the demo's: ``python tests/workspace/make_set.py DIR``."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("star", "heart", "ring")
COLOURS = {"red": (200, 30, 40), "blue": (40, 80, 200), "green": (40, 150, 60), "yellow": (240, 210, 50)}
SIZE = (240, 180)  # width, height in pixels


def make_set(folder: Path, train: int = 160, val: int = 60, seed: int = 0) -> None:
    """Write ``pictures/``, ``train.json``, ``val.json``, ``novel.txt`` and ``captions.json`` of the training set."""
    rng = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True)
    sentences: list[dict[str, Any]] = []
    for split, count in (("train", train), ("val", val)):
        images, boxes = [], []
        for number in range(1, count + 1):
            name = f"{split}_{number:04d}.jpg"
            picture, found, sentence = _scene(rng)
            picture.save(folder / "pictures" / name, quality=92)
            images.append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
            boxes += [{"image_id": number, "category_id": kind + 1, "bbox": box} for kind, box in found]
            if split == "train":
                sentences.append({"id": number, "image_id": number, "caption": sentence})
        _write(folder / f"{split}.json", images, boxes)
        if split == "train":
            (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": sentences}))
    (folder / "novel.txt").write_text("ring\n")


def _write(file: Path, images: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> None:
    """As many tools write it: no area, no iscrowd."""
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    annotations = [{"id": i, **box} for i, box in enumerate(boxes, 1)]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _scene(rng: np.random.Generator) -> tuple[Image.Image, list[tuple[int, list[float]]], str]:
    """Return a picture, its classes and boxes (x, y, width, height in pixels), and a caption."""
    width, height = SIZE
    picture = _ground(rng)
    draw, found, words = ImageDraw.Draw(picture), [], []
    for left in rng.permutation([0, 80, 160])[: rng.integers(1, 4)]:
        kind, colour, side = int(rng.integers(3)), str(rng.choice(list(COLOURS))), int(rng.integers(36, 70))
        x, y = int(left + rng.integers(0, 80 - side)), int(rng.integers(0, height - side))
        _draw(draw, kind, (x, y, side), COLOURS[colour])
        found.append((kind, [float(x), float(y), float(side), float(side)]))
        words.append(f"a {colour} {CLASSES[kind]}")
    return picture, found, " and ".join(words)


def _ground(rng: np.random.Generator) -> Image.Image:
    """Return gray clouds with grain, other ones each time: two pictures with a like object in a like place differ."""
    clouds = Image.fromarray(rng.uniform(60, 200, (4, 5)).astype(np.float32)).resize(SIZE, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 10, (SIZE[1], SIZE[0], 3))
    return Image.fromarray((np.asarray(clouds)[..., None] + grain).clip(0, 255).astype(np.uint8))


def _draw(draw: ImageDraw.ImageDraw, kind: int, place: tuple[int, int, int], colour: tuple[int, int, int]) -> None:
    x, y, side = place
    half = side / 2
    if CLASSES[kind] == "ring":
        draw.ellipse((x, y, x + side - 1, y + side - 1), outline=colour, width=side // 5)
        return
    if CLASSES[kind] == "star":
        turns = [(i * math.pi / 5, half if i % 2 == 0 else half * 0.42) for i in range(10)]
        points = [(half + r * math.sin(a), half - r * math.cos(a)) for a, r in turns]
    else:
        angles = np.linspace(0, 2 * math.pi, 60)
        # The heart curve, whose extent is 32 by 29 units.
        points = [
            (16 * math.sin(a) ** 3, 13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a))
            for a in angles
        ]
        points = [(half + px / 16 * half, half - (py + 2.5) / 14.5 * half) for px, py in points]
    draw.polygon([(x + min(px, side - 1), y + min(py, side - 1)) for px, py in points], fill=colour)


if __name__ == "__main__":
    make_set(Path(sys.argv[1]))
