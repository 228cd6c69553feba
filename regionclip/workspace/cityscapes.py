"""Folders of Cityscapes and Foggy Cityscapes: the polygons of gtFine beside the pictures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from regionclip.data.annotations.masks import Rle, encode_masks, mask_box
from regionclip.errors import InputError
from regionclip.files import read_json
from regionclip.workspace.labelled import Box, Found, Labelled, files_below, useless

CLASSES = {"person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33}
"""The classes with instances that Cityscapes evaluates -> their ids in its table of labels."""
_LABELS = "_gtFine_polygons.json"
_PLATE = "license plate"  # the only label that Cityscapes does not draw: what is below it stays car
_LONGEST = 1 << 13  # pixels of a picture's side; the pictures have 2048 x 1024


def read_cityscapes(folder: Path, split: str | None, kind: str = "leftImg8bit", fog: str = "") -> Found:
    """Read ``gtFine`` and ``leftImg8bit``, or the pictures of ``leftImg8bit_foggy`` of one density.

    A box goes around what is seen of an object, as in the instance images of Cityscapes: the polygons of a file lie
    over one another in their order, and a later one hides what is below it. ``NAMEgroup`` is a crowd of NAME.

    Args:
        folder: Holds both, as Cityscapes' archives unpack.
        split: ``train`` (None) or ``val``; the labels of ``test`` are not public.
        kind: Folder of the pictures.
        fog: What ends their names.

    Raises:
        InputError: The folder does not have this form.
    """
    split = split or "train"
    labels, pictures = folder / "gtFine" / split, folder / kind / split
    if split not in {"train", "val"}:
        raise InputError("there are no public labels of this split", file=labels, mend="give --split train or val")
    for place in (labels, pictures):
        if not place.is_dir():
            mend = f"give the folder that holds gtFine and {kind}"
            raise InputError("the folder does not exist", file=place, mend=mend)
    found, ending, others = Found(folder, relative=False, categories=dict(CLASSES)), f"_{kind}{fog}.png", Counter[str]()
    files = files_below(pictures)
    waiting = {file for file in files if file.name.endswith(ending) and not file.name.startswith(".")}
    if len(waiting) < len(files):
        found.notes["other files, not read"] += [file.name for file in files if file not in waiting]
    for file in files_below(labels):
        if not file.name.endswith(_LABELS) or file.name.startswith("."):
            continue  # images of the same labels
        picture = pictures / file.relative_to(labels).with_name(file.name.removesuffix(_LABELS) + ending)
        if picture in waiting:
            _add(found, picture, file, others)
            waiting.remove(picture)
        else:
            found.faults.append(InputError("there is no picture of the file", file=file, mend=f"add {picture}"))
    mend = "add its file to gtFine, or take it out"
    found.faults += [InputError("there is no label file", file=picture, mend=mend) for picture in sorted(waiting)]
    if others:
        counts = ", ".join(f"{count} x {label[:40]}" for label, count in others.most_common())
        found.notes[f"objects of other labels, not kept: {counts}"] = []
    return found


def _add(found: Found, picture: Path, file: Path, others: Counter[str]) -> None:
    try:
        size, objects = _content(file)
    except InputError as error:
        found.faults += [error, useless(picture)]
        return
    labelled, faults, kept = Labelled(picture, file, size=size), [], {}
    canvas = Image.new("I", size)
    pen = ImageDraw.Draw(canvas)
    for count, entry in enumerate(objects, 1):
        try:
            label, polygon = _object(entry)
        except ValueError as error:
            mend = "mend the object, or take it out"
            faults.append(InputError(str(error), file=file, record=f"object {count}", mend=mend))
            continue
        if label != _PLATE:
            pen.polygon(polygon, fill=count)
        name = label.removesuffix("group")
        if name in CLASSES:
            kept[count] = (name, name != label)
        else:
            others[label] += 1
    masks = _masks(np.asarray(canvas))
    for count, (name, crowd) in kept.items():
        if count not in masks:
            found.notes["objects wholly hidden or outside, left out"].append(f"{file.name}, object {count}")
            continue
        left, top, width, height = mask_box(masks[count])
        corners = (left, top, left + width, top + height)
        labelled.boxes.append(Box(f"object {count}", name, corners, mask=masks[count], crowd=crowd))
    found.add_read(labelled, faults)


def _masks(drawn: NDArray[np.int32]) -> dict[int, Rle]:
    """Return the mask of each number in an image (H, W), by one look at its runs down the columns."""
    pixels = drawn.T.ravel()
    starts = np.flatnonzero(np.diff(pixels, prepend=-1))
    runs, numbers = np.stack([starts, np.append(starts[1:], pixels.size)], axis=1), pixels[starts]
    masks = {}
    for number in np.unique(numbers).tolist():
        counts = np.diff(runs[numbers == number].ravel(), prepend=0, append=pixels.size).tolist()
        (masks[number],) = encode_masks([coco_mask.frPyObjects({"size": drawn.shape, "counts": counts}, *drawn.shape)])
    return masks


def _content(file: Path) -> tuple[tuple[int, int], list[Any]]:
    """Return width and height of the picture, and the objects of a label file."""
    content, mend = read_json(file), "write the file as Cityscapes does, or take it out with its picture"
    content = content if isinstance(content, dict) else {}
    width, height, objects = (content.get(key) for key in ("imgWidth", "imgHeight", "objects"))
    if not all(type(side) is int and 0 < side <= _LONGEST for side in (width, height)):
        raise InputError("there is no size of the picture", file=file, key="imgWidth, imgHeight", mend=mend)
    if not isinstance(objects, list):
        raise InputError("there is no list of objects", file=file, key="objects", mend=mend)
    return (width, height), objects


def _object(entry: Any) -> tuple[str, list[tuple[float, float]]]:
    """Return label and polygon of an object; a ValueError says what is wrong."""
    label, points = (entry.get(key) if isinstance(entry, dict) else None for key in ("label", "polygon"))
    if not isinstance(label, str) or not label:
        raise ValueError("the object has no label")
    if not isinstance(points, list) or len(points) < 3:
        raise ValueError("the polygon has fewer than three points")
    for point in points:
        pair = isinstance(point, list) and len(point) == 2 and all(type(value) in {int, float} for value in point)
        if not pair or not all(abs(value) <= 2 * _LONGEST for value in point):
            raise ValueError("a point of the polygon is not two numbers near the picture")
    return label, [(x, y) for x, y in points]
