"""NamedBoxesDataset: MMDetection's CocoDataset for COCO and LVIS files alike, classes picked by name."""

from __future__ import annotations

import regionclip.models  # noqa: F401  (makes `mmcv.ops` importable, which mmdet needs)

# isort: split
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS

from regionclip.data.annotations.annotation_files import picture_name
from regionclip.errors import InputError
from regionclip.text.prompts import clean_lvis_name


class _AnyNamesCOCO(COCO):
    """COCO's reader that also knows LVIS's spelling of class names and its images without ``file_name``."""

    def get_cat_ids(self, cat_names: list[str] = [], sup_names: list[str] = [], cat_ids: list[int] = []) -> list[int]:  # noqa: B006
        wanted = set(cat_names)
        return sorted(
            identity for identity, category in self.cats.items() if clean_lvis_name(category["name"]) in wanted
        )

    def load_imgs(self, ids: list[int]) -> list[dict]:
        return [image | {"file_name": picture_name(image)} for image in super().load_imgs(ids)]


@DATASETS.register_module()
class NamedBoxesDataset(CocoDataset):
    """Boxes of the classes in ``metainfo``; labels follow ascending category ids.

    Stock ``LVISV1Dataset`` counts labels over all categories of the file, which is no use for a classifier over base
    classes. Negative and not-exhaustive categories play no part in training, as in the official LVIS loader. That one
    also drops pictures without annotations in the test, and all but 500 annotations of a picture; this one does not.
    Boxes below one pixel are dropped, as `CocoDataset` does; Detectron2 keeps them.
    """

    COCOAPI = _AnyNamesCOCO

    def load_data_list(self) -> list[dict]:
        """Read the file.

        Raises:
            InputError: In training, the file lacks a class: the labels of all classes behind it would be shifted.
        """
        records = super().load_data_list()
        if not self.test_mode and len(self.cat_ids) != len(self.metainfo["classes"]):
            held = {clean_lvis_name(category["name"]) for category in self.coco.cats.values()}
            missing = [name for name in self.metainfo["classes"] if name not in held]
            raise InputError(
                f"{len(missing)} classes are not among the categories, such as {missing[0]!r}"
                if missing
                else "a class name occurs twice among the categories",
                file=self.ann_file,
                key="categories",
                mend="train on the classes that the file holds, spelled as it spells them",
            )
        return records

    def filter_data(self) -> list[dict]:
        """Drop from training also the pictures that hold nothing but crowds, as Detectron2 does.

        `CocoDataset` keeps them, and all their proposals would be background.
        """
        kept = super().filter_data()
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt"):
            return kept
        return [record for record in kept if not all(instance["ignore_flag"] for instance in record["instances"])]
