"""The pictures of docs/gallery.md, from a finished demo: ``python -m benchmarks.gallery [FOLDER]``.

Scenes are the first of the split val that there is something to show on; none is chosen by what was found.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from benchmarks.prompts import DATASET, EXAMPLES, examples, subject_of
from regionclip import Example, RegionCLIP, artifacts
from regionclip.data.annotations.annotation_files import picture_name
from regionclip.data.annotations.truth import boxes_by_image
from regionclip.files import atomic_path

OUT = Path(__file__).parents[1] / "docs/gallery"
SCENES, SCALE, THRESHOLD = 3, 2, 0.4
PHRASES = {
    "plant": ["flower", "tree", "mushroom"],
    "orange star": "orange star",
    "blue star": "blue star",
    "fish": "fish",
}
BACKGROUND = ["heart", "arrow", "boat", "ring", "moon", "crown", "house", "purple star"]
SIMILAR = ["star", "heart", "mushroom"]
STEP, WINDOW = 6, 36  # pixels: between regions of the map of cosines, and their sides
GAP, MOST_BYTES = 8, 150_000


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="where the demo has run")
    root = parser.parse_args().folder
    model = RegionCLIP.open(root, DATASET)
    val = subject_of(model, root, "val")
    scenes = [val.images / picture_name(image) for image in val.truth.images]
    save("names", detections(model, scenes[:SCENES], list(val.classes.names)))
    save("phrases", detections(model, scenes[:SCENES], PHRASES, background=BACKGROUND))
    shown, objects = examples(subject_of(model, root, "dev")), boxes_by_image(val.truth)
    novel = val.classes.ids_of(val.classes.novel_names)
    seen = [
        scenes[place] for place, image in enumerate(val.truth.images) if novel & {*objects[image["id"]][1].tolist()}
    ]
    found = detections(model, seen[:SCENES], {name: name for name in val.classes.base_names} | shown, only=[*shown])
    save("examples", [crops(shown), *found])
    save("similarity", similarity(model, scenes[0], SIMILAR))
    mistakes = Image.open(root / artifacts.PLOTS / f"worst_{DATASET}.png").convert("RGB")
    save("mistakes", [mistakes.resize((mistakes.width * 2 // 3, mistakes.height * 2 // 3))])


def detections(
    model: RegionCLIP, pictures: Sequence[Path], names: Any, only: list[str] | None = None, **settings: Any
) -> list[Image.Image]:
    """What is found on pictures, drawn at twice their size."""
    found = model.detect(pictures, names, threshold=THRESHOLD, agnostic=True, **settings)
    return [
        replace(one, pixels=np.asarray(large(Image.fromarray(one.pixels))), boxes=one.boxes * SCALE).filter(only).plot()
        for one in found
    ]


def crops(shown: Mapping[str, Sequence[Example]]) -> Image.Image:
    """The objects of examples, a row a name."""
    side = (192 * SCALE - GAP * (len(shown) - 1)) // len(shown)
    sheet = Image.new("RGB", (EXAMPLES * (side + GAP) - GAP, 192 * SCALE), "white")
    for row, (name, some) in enumerate(shown.items()):
        for column, example in enumerate(some):
            crop = Image.open(example.picture).convert("RGB").crop(tuple(map(round, example.box)))
            sheet.paste(crop.resize((side, side)), (column * (side + GAP), row * (side + GAP)))
        ImageDraw.Draw(sheet).text(
            (4, row * (side + GAP) + 2), name, "white", stroke_width=2, stroke_fill="black", font_size=16
        )
    return sheet


def similarity(model: RegionCLIP, picture: Path, names: list[str]) -> list[Image.Image]:
    """The picture, and for each name how near to it the features of square regions are; bright is near."""
    scene = Image.open(picture).convert("RGB")
    places = [np.arange(WINDOW // 2, side - WINDOW // 2 + 1, STEP) for side in scene.size]
    x, y = (axis.ravel() for axis in np.meshgrid(*places))
    regions = np.stack([x, y, x, y], axis=1) + np.array([-1, -1, 1, 1]) * WINDOW / 2
    cosines = model.similarity(model.features(picture, regions), names)
    shares = (cosines - cosines.min()) / np.ptp(cosines)
    maps = [large(scene)]
    for name, share in zip(names, shares.T, strict=True):
        heat = colormaps["magma"](share.reshape(len(places[1]), len(places[0])), bytes=True)[..., :3]
        maps.append(Image.blend(maps[0], Image.fromarray(heat).resize(maps[0].size, Image.Resampling.BICUBIC), 0.75))
        ImageDraw.Draw(maps[-1]).text((8, 8), name, fill="white", font_size=22)
    return maps


def large(picture: Image.Image) -> Image.Image:
    """A picture at twice its size."""
    return picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.BICUBIC)


def save(name: str, pictures: Sequence[Image.Image]) -> None:
    """Write pictures beside each other as one.

    Raises:
        ValueError: It is larger than a page should load.
    """
    width, height = sum(one.width + GAP for one in pictures) - GAP, max(one.height for one in pictures)
    whole, left = Image.new("RGB", (width, height), "white"), 0
    for one in pictures:
        whole.paste(one, (left, 0))
        left += one.width + GAP
    file = OUT / f"{name}.webp"
    with atomic_path(file) as beside:
        whole.save(beside, format="WEBP", quality=75, method=6)
    print(f"{file}: {whole.size}, {file.stat().st_size} bytes")
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file} is too large")


if __name__ == "__main__":
    main()
