"""NamedBoxesDataset: MMDetection's CocoDataset for COCO and LVIS files alike, classes picked by name."""

from __future__ import annotations

import regionclip.models  # noqa: F401  (makes `mmcv.ops` importable, which mmdet needs)

# isort: split
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS

from regionclip.text.prompts import clean_lvis_name


class _AnyNamesCOCO(COCO):
    """COCO's reader that also knows LVIS's spelling of class names and its images without ``file_name``."""

    def get_cat_ids(self, cat_names: list[str] = [], sup_names: list[str] = [], cat_ids: list[int] = []) -> list[int]:  # noqa: B006
        wanted = set(cat_names)
        return sorted(
            identity for identity, category in self.cats.items() if clean_lvis_name(category["name"]) in wanted
        )

    def load_imgs(self, ids: list[int]) -> list[dict]:
        return [{"file_name": _lvis_file(image), **image} for image in super().load_imgs(ids)]


def _lvis_file(image: dict) -> str:
    """LVIS names a picture by its address only, whose last two parts are folder and file."""
    return "/".join(image.get("coco_url", "").rsplit("/", 2)[-2:])


@DATASETS.register_module()
class NamedBoxesDataset(CocoDataset):
    """Boxes of the classes in ``metainfo``; labels follow ascending category ids.

    Stock ``LVISV1Dataset`` counts labels over all categories of the file, which is no use for a classifier over base
    classes. Negative and not-exhaustive categories play no part in training, as in the official LVIS loader.
    """

    COCOAPI = _AnyNamesCOCO
