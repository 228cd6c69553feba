"""Pseudo-label quality: what the kept regions of the captioned scenes lie on, and whether their concept names it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regionclip.data.annotations.annotation_files import Json, read_boxes
from regionclip.data.layout import ClassList
from regionclip.errors import InputError
from regionclip.evaluation.overlap import overlaps


@dataclass(frozen=True)
class LabelledRegions:
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

    def __post_init__(self) -> None:
        lengths = {len(self.boxes), len(self.concepts), len(self.confidence), len(self.keep)}
        if len(lengths) > 1:
            raise InputError("boxes, concepts, confidence and keep differ in length", record=f"image {self.image_id}")


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
        bins: The number of confidence bins of ``by_confidence``.

    Returns:
        Fractions 0..1, None where there is nothing to divide by:
        precision: right among kept regions on an object; precision_base, precision_novel and per_class
        {shape: precision}: the same for objects of these shapes.
        precision_all_kept: right among all kept regions; one on no object counts as wrong, also where it shows
        a distractor or a background that the truth does not list.
        on_object_fraction: kept regions that are on an object, among all kept.
        colour_precision: the object's colour among kept regions on an object whose concept names a colour.
        kept_fraction: kept among all regions.
        kept, regions: counts; by_confidence: see ``precision_by_confidence``; protocol: words.

    Raises:
        InputError: The truth is unsound, lacks colours, or lacks an image that has regions.
    """
    table = judge_regions(read_boxes(truth, facts=()).sound(), regions, iou_threshold, truth)
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
        "by_confidence": precision_by_confidence(table, bins),
        "protocol": f"kept regions with IoU >= {iou_threshold} to a true object: share whose concept names its shape; "
        "precision_all_kept counts kept regions on no object as wrong",
    }


def judge_regions(
    truth: Json, regions: Iterable[LabelledRegions], iou_threshold: float, file: str | Path | None = None
) -> pd.DataFrame:
    """Judge every region, kept or not.

    Args:
        truth: Content of an annotation file, each annotation with "colour".
        regions: The pseudo labels, image by image.
        iou_threshold: The IoU from which a region is on an object.
        file: The truth's file, for error messages.

    Returns:
        One row a region: keep, confidence, on_object, shape (of the object, else None), right, names_colour,
        colour_right.

    Raises:
        InputError: The truth lacks a colour or an image.
    """
    names = {category["id"]: str(category["name"]) for category in truth["categories"]}
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        if "colour" not in annotation:
            raise InputError(
                "the key is missing", file=file, record=annotation.get("id"), key="colour", mend="write the truth again"
            )
        objects[annotation["image_id"]].append(annotation)
    reader = _ConceptReader(names.values(), {str(item["colour"]) for item in truth["annotations"]})
    rows: list[dict[str, Any]] = []
    for image in regions:
        if image.image_id not in objects:
            raise InputError(
                "the truth lacks the image", file=file, record=image.image_id, mend="judge the scenes of this truth"
            )
        rows += _judge_image(image, objects[image.image_id], names, reader, iou_threshold)
    columns = ["keep", "confidence", "on_object", "shape", "right", "names_colour", "colour_right"]
    flags = {name: bool for name in ("keep", "on_object", "right", "names_colour", "colour_right")}
    return pd.DataFrame(rows, columns=columns).astype(flags)


def precision_by_confidence(table: pd.DataFrame, bins: int = 10) -> list[dict[str, float | int | None]]:
    """Sum up judged regions in equal bins of the teacher's confidence.

    Args:
        table: What ``judge_regions`` returns.
        bins: The number of bins over 0..1; each holds its lower edge, the last one also 1.

    Returns:
        For each bin: low, high (its edges), regions and kept (counts), on_object (the fraction of its regions on an
        object), precision (right among its regions on an object); fractions are None in an empty bin.
    """
    place = np.clip((table["confidence"].to_numpy(dtype=np.float64) * bins).astype(np.int64), 0, bins - 1)
    result: list[dict[str, float | int | None]] = []
    for index in range(bins):
        inside = table[place == index]
        result.append(
            {
                "low": index / bins,
                "high": (index + 1) / bins,
                "regions": len(inside),
                "kept": int(inside["keep"].sum()),
                "on_object": _mean(inside["on_object"]),
                "precision": _mean(inside["right"][inside["on_object"]]),
            }
        )
    return result


class _ConceptReader:
    """Finds shape and colour in a concept: the shape is its last words, the colour is among the words before."""

    def __init__(self, shapes: Iterable[str], colours: Collection[str]) -> None:
        # Longest first, so that "half moon" is not taken for a "moon" where both are shapes.
        self._shapes = sorted(shapes, key=len, reverse=True)
        self._colours = sorted(colours, key=len, reverse=True)

    def read(self, concept: str) -> tuple[str | None, str | None]:
        padded = f" {concept} "
        shape = next((name for name in self._shapes if padded.endswith(f" {name} ")), None)
        before = padded.removesuffix(f"{shape} ") if shape else padded
        return shape, next((name for name in self._colours if f" {name} " in before), None)


def _judge_image(
    image: LabelledRegions,
    objects: Sequence[dict[str, Any]],
    names: dict[int, str],
    reader: _ConceptReader,
    iou_threshold: float,
) -> list[dict[str, Any]]:
    best, overlap = _best_objects(image.boxes, objects)
    rows: list[dict[str, Any]] = []
    for index, concept in enumerate(image.concepts):
        on_object = bool(overlap[index] >= iou_threshold)
        thing = objects[best[index]] if on_object else None
        shape, colour = reader.read(concept)
        true_shape = names[thing["category_id"]] if thing else None
        rows.append(
            {
                "keep": bool(image.keep[index]),
                "confidence": float(image.confidence[index]),
                "on_object": on_object,
                "shape": true_shape,
                "right": on_object and shape == true_shape,
                "names_colour": colour is not None,
                "colour_right": thing is not None and colour == thing["colour"],
            }
        )
    return rows


def _best_objects(
    boxes: NDArray[np.floating], objects: Sequence[dict[str, Any]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if not objects:
        return np.zeros(len(boxes), dtype=np.int64), np.zeros(len(boxes))
    true = np.array([item["bbox"] for item in objects], dtype=np.float64)
    true[:, 2:] += true[:, :2]
    overlap = overlaps(boxes, true)
    return overlap.argmax(axis=1), overlap.max(axis=1)


def _mean(flags: pd.Series) -> float | None:
    return float(flags.mean()) if len(flags) else None
