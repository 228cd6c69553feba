"""NamedBoxesDataset: MMDetection's data set for COCO and LVIS files alike, classes picked by name."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from regionclip.data.annotations.annotation_files import Json, class_name, picture_name, read_boxes
from regionclip.data.layout import DetectionSet
from regionclip.errors import InputError

LARGEST_SHARE = 10
"""At most one in so many training pictures is taken out of the training."""


@DATASETS.register_module()
class NamedBoxesDataset(CocoDataset):
    """Boxes of the classes in ``metainfo``; labels follow ascending category ids.

    Stock ``LVISV1Dataset`` counts labels over all categories of the file, which is no use for a classifier over base
    classes. Negative and not-exhaustive categories play no part in training, as in the official LVIS loader. That one
    also drops pictures without annotations in the test, and all but 500 annotations of a picture; this one does not.
    Boxes below one pixel are dropped, as `CocoDataset` does; Detectron2 keeps them. No other box is: `CocoDataset`
    drops those with ``area`` 0 or ``ignore`` too, which are understood when the file is read (see `read_boxes`).

    Args:
        held_out: Leave out the development split, at most so many pictures; see `held_out`.
        pseudo_boxes: Another file of the same pictures, whose categories and boxes are added; None: no other.
        others: As `CocoDataset` has them.
    """

    def __init__(self, *args: Any, held_out: int = 0, pseudo_boxes: str | None = None, **others: Any) -> None:
        self.held_out, self.pseudo_boxes = held_out, pseudo_boxes
        super().__init__(*args, **others)

    @staticmethod
    def config(scenes: DetectionSet, names: Sequence[str], *, training: bool) -> dict[str, Any]:
        """Return the arguments, all but the pipeline; see `filter_data` of what is left out of a training."""
        return {
            "ann_file": str(scenes.annotations.resolve()),
            "data_prefix": {"img": str(scenes.images.resolve())},
            "metainfo": {"classes": tuple(names)},
            "test_mode": not training,
        }

    def load_data_list(self) -> list[dict]:
        """Read the file.

        Raises:
            InputError: A record breaks a rule; or, in training, the file lacks a class: the labels of all classes
                behind it would be shifted.
        """
        content = read_boxes(self.ann_file).sound()
        if self.pseudo_boxes is not None:
            more = read_boxes(self.pseudo_boxes).sound()
            content |= {part: content[part] + more[part] for part in ("categories", "annotations")}
        wanted, held = set(self.metainfo["classes"]), {c["id"]: class_name(c) for c in content["categories"]}
        self.cat_ids = sorted(key for key, name in held.items() if name in wanted)
        self.cat2label = {key: label for label, key in enumerate(self.cat_ids)}
        if not self.test_mode and len(self.cat_ids) != len(self.metainfo["classes"]):
            missing = [name for name in self.metainfo["classes"] if name not in held.values()]
            problem = "a class name occurs twice among the categories"
            if missing:
                problem = f"{len(missing)} classes are not among the categories, such as {missing[0]!r}"
            mend = "train on the classes that the file holds, spelled as it spells them"
            raise InputError(problem, file=self.ann_file, key="categories", mend=mend)
        folder = Path(self.data_prefix["img"])
        left_out = held_out([image["id"] for image in content["images"]], self.held_out)
        boxes: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            if annotation["category_id"] in self.cat2label and min(annotation["bbox"][2:]) >= 1:
                boxes[annotation["image_id"]].append(self._instance(annotation))
        return [
            {
                "img_path": str(folder / picture_name(image)),
                "img_id": image["id"],
                "seg_map_path": None,
                "height": image["height"],
                "width": image["width"],
                "instances": boxes[image["id"]],
            }
            for image in content["images"]
            if image["id"] not in left_out
        ]

    def _instance(self, annotation: Json) -> dict[str, Any]:
        left, top, width, height = annotation["bbox"]
        return {
            "ignore_flag": annotation.get("iscrowd", 0),
            "bbox": [left, top, left + width, top + height],
            "bbox_label": self.cat2label[annotation["category_id"]],
        } | ({"mask": annotation["segmentation"]} if annotation.get("segmentation") else {})

    def filter_data(self) -> list[dict]:
        """Drop from training the pictures that have no box, or nothing but crowds, as Detectron2 does.

        `CocoDataset` keeps crowds, and all their proposals would be background.

        Raises:
            InputError: No picture is left.
        """
        if self.test_mode:
            return self.data_list
        kept = [r for r in self.data_list if not all(instance["ignore_flag"] for instance in r["instances"])]
        if not kept:
            problem = "no picture has a box to train on (crowds and boxes below a pixel are none)"
            raise InputError(problem, file=self.ann_file, key="annotations", mend="label objects of the classes")
        return kept


def some_pictures(image_ids: Iterable[int], most: int) -> frozenset[int]:
    """Choose at most so many pictures by a hash of their ids, whatever seed, order or classes."""
    return frozenset(sorted(image_ids, key=lambda key: hashlib.sha256(str(key).encode()).digest())[:most])


def held_out(image_ids: Collection[int], most: int) -> frozenset[int]:
    """Choose the training pictures that are the development split of a set without one.

    Each training on the same pictures leaves out the same.

    Args:
        image_ids: All training pictures.
        most: At most so many, and never more than a tenth of all.
    """
    return some_pictures(image_ids, min(most, len(image_ids) // LARGEST_SHARE))
