"""Detection sheets: scenes in rows; the truth, then each model's detections, in columns; novel objects marked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from regionclip.data.annotations.truth import BoxArrays
from regionclip.errors import InputError
from regionclip.evaluation.overlap import overlaps
from regionclip.evaluation.plots.style import BASE, NOVEL, QUIET, picture, plain

_SCALE, _DPI = 3, 100
_GAP, _LEFT, _TOP = 14, 14, 104


@dataclass(frozen=True)
class SceneBoxes:
    """Named boxes on one scene.

    Attributes:
        boxes: (N, 4) xyxy in the scene's pixels.
        names: N class names.
        scores: (N,) for detections, None for the truth.
    """

    boxes: NDArray[np.floating]
    names: Sequence[str]
    scores: NDArray[np.floating] | None = None


def scene_boxes(
    found: BoxArrays, image_id: int, names: Mapping[int, str], limit: int | None = None, min_score: float = 0.0
) -> SceneBoxes:
    """Choose the boxes of one scene that a sheet shows: the best ``limit``, none of them below ``min_score``.

    True objects have the score 1.
    """
    chosen = found.take((found.image_ids == image_id) & (found.scores >= min_score))
    chosen = chosen.take(np.argsort(-chosen.scores, kind="stable")[:limit])
    boxes = chosen.boxes.astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return SceneBoxes(boxes, [names[key] for key in chosen.category_ids.tolist()], chosen.scores.astype(np.float32))


def detection_sheet(
    images: Sequence[NDArray[np.uint8]],
    truth: Sequence[SceneBoxes],
    detections: Mapping[str, Sequence[SceneBoxes]],
    novel_names: Collection[str],
    out_path: str | Path,
) -> None:
    """Draw scenes three times their size with boxes, names and scores; a wrong detection is dashed and crossed.

    A detection is right if it overlaps a true object of its name with IoU >= 0.5.

    Args:
        images: RGB scenes (H, W, 3), all of one size.
        truth: The true objects of each scene.
        detections: Column title -> the detections of each scene, such as {"CLIP": ..., "RegionCLIP": ...}.
        novel_names: The names drawn in the striking colour.
        out_path: The PNG file.

    Raises:
        InputError: The lists differ in length, or the scenes differ in size.
    """
    columns = {"Ground truth": truth, **detections}
    if (
        not images
        or {len(column) for column in columns.values()} != {len(images)}
        or len({i.shape for i in images}) > 1
    ):
        raise InputError(
            "scenes, truth and detections differ in number, or scenes in size", mend="give one entry a scene"
        )
    height, width = (_SCALE * size for size in images[0].shape[:2])
    total_w = 2 * _LEFT + len(columns) * (width + _GAP) - _GAP
    total_h = _TOP + len(images) * (height + _GAP)
    with picture(out_path, total_w / _DPI, total_h / _DPI, dpi=_DPI) as figure:
        figure.set_layout_engine("none")
        _legend(figure.add_axes((0, 1 - _TOP / total_h, 1, _TOP / total_h)), total_w)
        for place, (title, column) in enumerate(columns.items()):
            left = _LEFT + place * (width + _GAP)
            figure.text(left / total_w, 1 - (_TOP - 12) / total_h, title, fontsize=18, fontweight="bold", va="bottom")
            for row, (image, boxes) in enumerate(zip(images, column, strict=True)):
                bottom = total_h - _TOP - (row + 1) * height - row * _GAP
                axes = figure.add_axes((left / total_w, bottom / total_h, width / total_w, height / total_h))
                _scene(axes, image, boxes, None if column is truth else truth[row], novel_names)


def _legend(axes: Axes, width: float) -> None:
    axes.set(xlim=(0, width), ylim=(_TOP, 0))
    axes.axis("off")
    axes.text(_LEFT, 14, "Open-vocabulary detection", fontsize=20, fontweight="bold", va="top")
    x = width - _LEFT
    for text, colour, style in (
        ("wrong", QUIET, "--"),
        ("novel class: no box in training", NOVEL, "-"),
        ("base class", BASE, "-"),
    ):
        x -= 9.4 * len(text)
        axes.text(x, 28, text, fontsize=12, va="center")
        x -= 34
        axes.add_patch(Rectangle((x, 19), 24, 18, fill=False, edgecolor=colour, linewidth=3, linestyle=style))
        x -= 24


def _scene(
    axes: Axes, image: NDArray[np.uint8], found: SceneBoxes, truth: SceneBoxes | None, novel_names: Collection[str]
) -> None:
    height, width = image.shape[:2]
    axes.imshow(
        cv2.resize(image, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC), extent=(0, width, height, 0)
    )
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    right = [True] * len(found.names) if truth is None else _right(found, truth)
    # Weakest first, so that the strongest lie on top.
    for index in reversed(range(len(found.names))):
        name, colour = found.names[index], NOVEL if found.names[index] in novel_names else BASE
        x1, y1, x2, y2 = found.boxes[index]
        line = "-" if right[index] else (0, (3, 2))
        for edge, thick, style in (("white", 4.6, "-"), (colour, 2.8, line)):
            axes.add_patch(
                Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=edge, linewidth=thick, linestyle=style)
            )
        text = (
            plain(name) if truth is None else f"{plain(name)} {found.scores[index]:.2f} {'✓' if right[index] else '✗'}"
        )
        _label(axes, text, x1, y1, colour, right[index], width)


def _label(axes: Axes, text: str, x: float, y: float, colour: str, right: bool, width: int) -> None:
    x, low = min(max(x, 1.0), width - 3.0 * len(text)), y < 9
    box = {
        "boxstyle": "square,pad=0.22",
        "facecolor": colour if right else "white",
        "edgecolor": colour,
        "linewidth": 1.2,
    }
    axes.text(
        max(x, 1.0),
        max(y, 0.0) + (1.5 if low else -1.5),
        text,
        fontsize=10,
        fontweight="bold",
        color="white" if right else colour,
        va="top" if low else "bottom",
        bbox=box,
    )


def _right(found: SceneBoxes, truth: SceneBoxes) -> list[bool]:
    near = overlaps(found.boxes, truth.boxes) >= 0.5
    same = np.array([[name == other for other in truth.names] for name in found.names], dtype=bool).reshape(near.shape)
    return (near & same).any(axis=1).tolist()
