"""Pseudo-label quality: what the kept regions of the captioned scenes lie on, and whether their concept names it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regionclip.data.annotations.annotation_files import read_boxes
from regionclip.data.layout import ClassList
from regionclip.errors import InputError
from regionclip.evaluation.overlap import overlaps


class LabelledRegions(NamedTuple):
    """The pseudo labels of one image.

    Attributes:
        image_id: The image's id in the truth.
        boxes: (N, 4) xyxy in original pixels.
        concepts: N names, the best concept of each region.
        confidence: (N,) the teacher's probability of that concept.
        keep: (N,) whether the region is kept for training.
    """

    image_id: int
    boxes: NDArray[np.floating]
    concepts: Sequence[str]
    confidence: NDArray[np.floating]
    keep: NDArray[np.bool_]


def pseudo_label_precision(
    truth: str | Path,
    regions: Iterable[LabelledRegions],
    classes: ClassList,
    iou_threshold: float = 0.5,
    bins: int = 10,
) -> dict[str, Any]:
    """Measure pseudo labels against the scenes' true objects; training never sees this truth.

    A region is *on* the true object that it overlaps most, if their IoU reaches the threshold. Its concept is *right*
    if it names that object's shape, alone or after modifiers ("star", "red star"). The colour is judged apart.

    Args:
        truth: COCO instances JSON of the scenes; categories are shapes, each annotation has "colour".
        regions: The pseudo labels, image by image; images without an entry are not judged.
        classes: Which shapes are base and which novel.
        iou_threshold: The IoU from which a region is on an object.
        bins: The number of equal bins of confidence in ``by_confidence``; each holds its lower edge, the last also 1.

    Returns:
        Fractions 0..1, None where there is nothing to divide by:
        precision: right among kept regions on an object; precision_base, precision_novel and per_class
        {shape: precision}: the same for objects of these shapes.
        precision_all_kept: right among all kept regions; one on no object counts as wrong, also where it shows
        a distractor or a background that the truth does not list.
        on_object_fraction: kept regions that are on an object, among all kept.
        colour_precision: the object's colour among kept regions on an object whose concept names a colour.
        kept_fraction: kept among all regions.
        kept, regions: counts; protocol: words; by_confidence, for each bin: low, high (its edges), regions and kept
        (counts), on_object (the fraction of its regions on an object), precision (right among these).

    Raises:
        InputError: The truth is unsound, lacks colours, or lacks an image that has regions.
    """
    table = _judged(truth, regions, iou_threshold)
    kept = table[table["keep"]]
    on_object = kept[kept["on_object"]]
    coloured = on_object[on_object["names_colour"]]
    per_class = on_object.groupby("shape")["right"].mean()
    return {
        "precision": _mean(on_object["right"]),
        "precision_base": _mean(on_object["right"][on_object["shape"].isin(list(classes.base_names))]),
        "precision_novel": _mean(on_object["right"][on_object["shape"].isin(list(classes.novel_names))]),
        "precision_all_kept": _mean(kept["right"]),
        "on_object_fraction": _mean(kept["on_object"]),
        "colour_precision": _mean(coloured["colour_right"]),
        "kept_fraction": _mean(table["keep"]),
        "kept": len(kept),
        "regions": len(table),
        "per_class": {str(name): float(value) for name, value in per_class.items()},
        "by_confidence": [*_by_confidence(table, bins)],
        "protocol": f"kept regions with IoU >= {iou_threshold} to a true object: share whose concept names its shape; "
        "precision_all_kept counts kept regions on no object as wrong",
    }


def _judged(file: str | Path, regions: Iterable[LabelledRegions], iou_threshold: float) -> pd.DataFrame:
    """Judge every region, kept or not; ``shape`` is that of the object that it is on, else None."""
    truth = read_boxes(file, facts=()).sound()
    names = {category["id"]: str(category["name"]) for category in truth["categories"]}
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        if "colour" not in annotation:
            record, mend = annotation.get("id"), "write the truth again"
            raise InputError("the key is missing", file=file, record=record, key="colour", mend=mend)
        objects[annotation["image_id"]].append(annotation)
    # Longest first, so that "half moon" is not taken for a "moon" where both are shapes.
    shapes = sorted(names.values(), key=len, reverse=True)
    colours = sorted({str(item["colour"]) for item in truth["annotations"]}, key=len, reverse=True)
    rows = []
    for image_id, boxes, *columns in regions:
        if image_id not in objects:
            mend = "judge the scenes of this truth"
            raise InputError("the truth lacks the image", file=file, record=image_id, mend=mend)
        things = objects[image_id]
        true = np.array([thing["bbox"] for thing in things], dtype=np.float64).reshape(-1, 4)
        true[:, 2:] += true[:, :2]
        for overlap, concept, confidence, keep in zip(overlaps(boxes, true), *columns, strict=True):
            thing = things[overlap.argmax()] if overlap.max(initial=0) >= iou_threshold else None
            true_shape = names[thing["category_id"]] if thing else None
            # The shape is a concept's last words, the colour is among the words before.
            words = f" {concept} "
            shape = next((name for name in shapes if words.endswith(f" {name} ")), None)
            before = words.removesuffix(f"{shape} ") if shape else words
            colour = next((name for name in colours if f" {name} " in before), None)
            rows.append(
                {
                    "keep": keep,
                    "confidence": confidence,
                    "on_object": thing is not None,
                    "shape": true_shape,
                    "right": thing is not None and shape == true_shape,
                    "names_colour": colour is not None,
                    "colour_right": thing is not None and colour == thing["colour"],
                }
            )
    flags = ("keep", "on_object", "right", "names_colour", "colour_right")
    return pd.DataFrame(rows, columns=["confidence", "shape", *flags]).astype(dict.fromkeys(flags, bool))


def _by_confidence(table: pd.DataFrame, bins: int) -> Iterator[dict[str, Any]]:
    place = np.clip((table["confidence"].to_numpy(dtype=np.float64) * bins).astype(np.int64), 0, bins - 1)
    for number in range(bins):
        inside = table[place == number]
        yield {
            "low": number / bins,
            "high": (number + 1) / bins,
            "regions": len(inside),
            "kept": int(inside["keep"].sum()),
            "on_object": _mean(inside["on_object"]),
            "precision": _mean(inside["right"][inside["on_object"]]),
        }


def _mean(flags: pd.Series) -> float | None:
    return float(flags.mean()) if len(flags) else None
