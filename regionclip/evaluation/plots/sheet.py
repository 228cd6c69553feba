"""Sheets of scenes: the truth beside each model's detections; and the worst mistakes of each kind. Novel is marked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from regionclip.data.annotations.truth import BoxArrays
from regionclip.evaluation.overlap import overlaps
from regionclip.evaluation.plots.style import BASE, NOVEL, QUIET, picture, plain

_SCALE, _DPI = 3, 100
_LARGEST = 640  # dots of a scene's longer side
_GAP, _LEFT, _TOP = 14, 14, 104
_EXAMPLE, _TITLE, _CAPTION = 230, 44, 26  # dots: side of a mistake's scene, of what stands above a row and a scene
_KEY = (
    ("base class", BASE, "-"),
    ("novel class: no box in training", NOVEL, "-"),
    ("wrong", QUIET, "--"),
)


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
    """Draw scenes three times their size, or as large as there is room, with boxes, names and scores.

    A detection is right if it overlaps a true object of its name with IoU >= 0.5; a wrong one is dashed and crossed.

    Args:
        images: RGB scenes (H, W, 3).
        truth: The true objects of each scene.
        detections: Column title -> the detections of each scene, such as {"CLIP": ..., "RegionCLIP": ...}.
        novel_names: The names drawn in the striking colour.
        out_path: The PNG file.
    """
    columns = {"Ground truth": truth, **detections}
    largest = np.max([image.shape[:2] for image in images], axis=0)
    scale = min(_SCALE, _LARGEST / largest.max())
    height, width = (scale * largest).round().tolist()
    total_w = 2 * _LEFT + len(columns) * (width + _GAP) - _GAP
    total_h = _TOP + len(images) * (height + _GAP)
    with picture(out_path, total_w / _DPI, total_h / _DPI, dpi=_DPI) as figure:
        figure.set_layout_engine("none")
        left, top = _LEFT / total_w, 1 - 14 / total_h
        figure.text(left, top, "Open-vocabulary detection", fontsize=20, fontweight="bold", va="top")
        key = [
            Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=3, linestyle=line, label=text)
            for text, colour, line in _KEY
        ]
        figure.legend(handles=key, ncols=3, fontsize=12, loc="upper right", bbox_to_anchor=(1 - left, top), borderpad=0)
        for place, (title, column) in enumerate(columns.items()):
            left = _LEFT + place * (width + _GAP)
            figure.text(left / total_w, 1 - (_TOP - 12) / total_h, title, fontsize=18, fontweight="bold", va="bottom")
            for row, (image, boxes) in enumerate(zip(images, column, strict=True)):
                bottom = total_h - _TOP - (row + 1) * height - row * _GAP
                axes = figure.add_axes((left / total_w, bottom / total_h, width / total_w, height / total_h))
                _show(axes, image, scale)
                _draw_boxes(axes, boxes, None if column is truth else truth[row], novel_names, 1 / scale)


def mistake_sheet(
    rows: Mapping[str, Sequence[tuple[NDArray[np.uint8], Mapping[str, Any]]]],
    novel_names: Collection[str],
    out_path: str | Path,
    title: str,
) -> None:
    """Draw a row of scenes for each kind of mistake: what was found dashed, the object that it is about solid.

    Args:
        rows: What a kind is, in words, to its scenes, RGB (H, W, 3), each with an example of `worst_examples`.
        novel_names: The names drawn in the striking colour.
        out_path: The PNG file.
        title: Above all.
    """
    rows = {kind: examples for kind, examples in rows.items() if examples}
    columns = max([len(examples) for examples in rows.values()] + [2])
    row_height = _TITLE + _CAPTION + _EXAMPLE
    total_w, total_h = 2 * _LEFT + columns * (_EXAMPLE + _GAP) - _GAP, 64 + len(rows) * row_height + _GAP
    with picture(out_path, total_w / _DPI, total_h / _DPI, dpi=_DPI, colours=128) as figure:
        figure.set_layout_engine("none")
        left = _LEFT / total_w
        figure.text(left, 1 - 14 / total_h, title, fontsize=16, fontweight="bold", va="top")
        note = "dashed: found; solid: the object; " + ("orange: novel class" if novel_names else "the surest first")
        figure.text(left, 1 - 44 / total_h, note if rows else "there is none", color=QUIET, va="top")
        for row, (kind, examples) in enumerate(rows.items()):
            top = total_h - 64 - row * row_height
            figure.text(left, (top - _TITLE + 6) / total_h, kind, fontsize=12, fontweight="bold", va="bottom")
            for place, (image, example) in enumerate(examples):
                x, y = _LEFT + place * (_EXAMPLE + _GAP), top - _TITLE - _CAPTION
                figure.text(x / total_w, (y + 6) / total_h, _caption(example), fontsize=9, va="bottom")
                size = (_EXAMPLE / total_w, _EXAMPLE / total_h)
                axes = figure.add_axes((x / total_w, (y - _EXAMPLE) / total_h, *size), anchor="NW")
                _show(axes, image, min(_SCALE, _EXAMPLE / max(image.shape[:2])))
                for side, line in (("object", "-"), ("found", (0, (3, 2)))):
                    if side in example:
                        x1, y1, width, height = example[side]["box"]
                        colour = NOVEL if example[side]["name"] in novel_names else BASE
                        _outline(axes, (x1, y1, x1 + width, y1 + height), colour, line)


def _caption(example: Mapping[str, Any]) -> str:
    there = plain(example["object"]["name"])[:22] if "object" in example else "nothing"
    if "found" not in example:
        return f"{there}, not found"
    return f"found {plain(example['found']['name'])[:22]} {example['found']['score']:.2f}, is {there}"


def _show(axes: Axes, image: NDArray[np.uint8], scale: float) -> None:
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    axes.imshow(large, extent=(0, image.shape[1], image.shape[0], 0))
    axes.axis("off")


def _outline(axes: Axes, box: Sequence[float], colour: str, line: Any) -> None:
    x1, y1, x2, y2 = box
    for edge, thick, style in (("white", 4.6, "-"), (colour, 2.8, line)):
        look = {"fill": False, "edgecolor": edge, "linewidth": thick, "linestyle": style}
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))


def _draw_boxes(
    axes: Axes, found: SceneBoxes, truth: SceneBoxes | None, novel_names: Collection[str], dot: float
) -> None:
    right = [True] * len(found.names) if truth is None else _right(found, truth)
    # Weakest first, so that the strongest lie on top.
    for index in reversed(range(len(found.names))):
        name, colour = plain(found.names[index]), NOVEL if found.names[index] in novel_names else BASE
        x1, y1, *_ = found.boxes[index]
        _outline(axes, found.boxes[index], colour, "-" if right[index] else (0, (3, 2)))
        if truth is not None:
            name += f" {found.scores[index]:.2f} {'✓' if right[index] else '✗'}"
        x, low = max(3 * dot, min(x1, axes.get_xlim()[1] - 9 * dot * len(name))), y1 < 27 * dot
        face, ink = (colour, "white") if right[index] else ("white", colour)
        box = {"boxstyle": "square,pad=0.22", "facecolor": face, "edgecolor": colour, "linewidth": 1.2}
        y, side = (max(y1, 0.0) + 4.5 * dot, "top") if low else (y1 - 4.5 * dot, "bottom")
        axes.text(x, y, name, fontsize=10, fontweight="bold", color=ink, va=side, bbox=box)


def _right(found: SceneBoxes, truth: SceneBoxes) -> list[bool]:
    near = overlaps(found.boxes, truth.boxes) >= 0.5
    same = np.array([[name == other for other in truth.names] for name in found.names], dtype=bool).reshape(near.shape)
    return (near & same).any(axis=1).tolist()
