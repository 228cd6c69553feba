"""Boxes by columns: what is true on the pictures of an annotation file, and what a detector found there."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from faster_coco_eval.core import mask as checked_mask
from numpy.typing import NDArray

from regionclip.data.annotations.annotation_files import Boxes, Json, mask_problem, read_boxes
from regionclip.data.annotations.masks import Masks, Rle
from regionclip.errors import InputError


@dataclass(frozen=True, eq=False)
class BoxArrays:
    """Boxes of many pictures, N in all.

    Attributes:
        image_ids: int64 (N,).
        category_ids: int64 (N,).
        boxes: float64 (N, 4): x, y, width and height in original pixels.
        areas: float64 (N,): square pixels that COCO's ranges of sizes go by.
        scores: float64 (N,) of detections; ones for true objects.
        crowds: bool (N,).
        places: int64 (N,): the mask of each box in ``masks``.
        masks: Of these boxes and others; None where none has any.
        file: Where they come from, for messages.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    scores: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    places: NDArray[np.int64]
    masks: Masks | None = None
    file: Path | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> BoxArrays:
        """Return some of the boxes; masks are not copied."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{key: value[rows] for key, value in arrays.items() if isinstance(value, np.ndarray)})

    def mask(self, row: int) -> Rle | None:
        """Return the mask of a box, None where it has none."""
        return None if self.masks is None else self.masks[self.places[row]]

    def masked(self) -> NDArray[np.bool_]:
        """Return which boxes have a mask, (N,)."""
        return np.zeros(len(self), bool) if self.masks is None else self.masks.there()[self.places]


class BoxColumns:
    """Boxes that come one by one or picture by picture, put into columns."""

    def __init__(self) -> None:
        self._image_ids, self._category_ids = array("q"), array("q")
        self._boxes, self._areas = array("d"), array("d")
        self._scores = array("d")
        self._crowds = array("b")
        self._masks = Masks()

    def add(
        self,
        image_id: int,
        category_id: int,
        box: Collection[float],
        *,
        area: float | None = None,
        score: float = 1.0,
        crowd: bool = False,
        mask: Rle | None = None,
    ) -> None:
        """Add a box, see `BoxArrays`; its area is that of the box where none is given."""
        _, _, width, height = box
        self._image_ids.append(image_id)
        self._category_ids.append(category_id)
        self._boxes.extend(box)
        self._areas.append(width * height if area is None else area)
        self._scores.append(score)
        self._crowds.append(crowd)
        self._masks.append(mask)

    def arrays(self, file: Path | None = None) -> BoxArrays:
        """Return all that were added."""
        return BoxArrays(
            image_ids=np.asarray(self._image_ids),
            category_ids=np.asarray(self._category_ids),
            boxes=np.asarray(self._boxes).reshape(-1, 4),
            areas=np.asarray(self._areas),
            scores=np.asarray(self._scores),
            crowds=np.asarray(self._crowds).astype(bool),
            places=np.arange(len(self._masks)),
            masks=self._masks if self._masks.there().any() else None,
            file=file,
        )


class Truth(NamedTuple):
    """What is true on the pictures of an annotation file.

    Attributes:
        file: The file, for messages.
        images: The records of the pictures.
        categories: The records of the classes, by ascending id.
        objects: The boxes; with masks where they were asked for.
    """

    file: Path
    images: list[Json]
    categories: list[Json]
    objects: BoxArrays

    @property
    def names(self) -> list[str]:
        """Names of the categories, by id."""
        return [category["name"] for category in self.categories]

    @property
    def category_ids(self) -> list[int]:
        """Ids of the categories."""
        return [category["id"] for category in self.categories]

    def only(self, names: Collection[str]) -> Truth:
        """Return what is left of some classes: their boxes, and the images that have one (crowds count)."""
        categories = [category for category in self.categories if category["name"] in names]
        ids = [category["id"] for category in categories]
        objects = self.objects.take(np.isin(self.objects.category_ids, ids))
        seen = set(objects.image_ids.tolist())
        return Truth(self.file, [image for image in self.images if image["id"] in seen], categories, objects)


def load_truth(path: str | Path, *, lvis: bool = False, masks: bool = False) -> Truth:
    """Read an annotation file whose records must all be sound; what images need is an id, and a size for masks.

    Args:
        path: COCO instances JSON, or LVIS v1 JSON.
        lvis: Whether LVIS's federated keys must be there too (lvisdataset.org, section "Data format").
        masks: Whether each annotation must have a mask of its image. Without it masks are not even parsed.

    Raises:
        InputError: A record breaks a rule (see `read_boxes`), a category lacks its frequency, or a mask is none.
    """
    facts, without = ({"size"}, ()) if masks else ((), ("segmentation",))
    return truth_of(read_boxes(path, "lvis" if lvis else "coco", facts=facts, without=without), lvis=lvis, masks=masks)


def truth_of(boxes: Boxes, *, lvis: bool = False, masks: bool = False) -> Truth:
    """Turn what an annotation file holds into the truth; arguments and errors as `load_truth`."""
    content, columns = boxes.sound(), BoxColumns()
    if lvis and not all("frequency" in category for category in content["categories"]):
        raise InputError("the key is missing", file=boxes.file, key="frequency", mend="give an LVIS annotation file")
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]} if masks else {}
    for annotation in content["annotations"]:
        ids = annotation["image_id"], annotation["category_id"]
        mask = None
        if masks:
            segmentation, (height, width) = annotation.get("segmentation"), sizes[ids[0]]
            if problem := mask_problem(segmentation, (height, width)):
                record, mend = f"annotation {annotation['id']}", "give polygons or an RLE, or drop the annotation"
                raise InputError(problem, file=boxes.file, record=record, key="segmentation", mend=mend)
            # Compressed RLE, whatever the file holds, made by the code that measures it.
            mask = checked_mask.segmToRle(segmentation, width, height)
        crowd = bool(annotation.get("iscrowd"))
        columns.add(*ids, annotation["bbox"], area=annotation["area"], crowd=crowd, mask=mask)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    return Truth(boxes.file, content["images"], categories, columns.arrays(boxes.file))


def boxes_by_image(truth: Truth) -> dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return the objects of every image, crowds left out.

    Returns:
        Image id -> boxes (N, 4) float32 xyxy in original pixels, category ids (N,); images without objects are there
        with N = 0.
    """
    objects = truth.objects.take(~truth.objects.crowds)
    order = np.argsort(objects.image_ids, kind="stable")
    boxes = objects.boxes[order].astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    labels, ids = objects.category_ids[order], objects.image_ids[order]
    images = [image["id"] for image in truth.images]
    starts, stops = (np.searchsorted(ids, images, side=side) for side in ("left", "right"))
    return {
        image_id: (boxes[start:stop], labels[start:stop])
        for image_id, start, stop in zip(images, starts, stops, strict=True)
    }
