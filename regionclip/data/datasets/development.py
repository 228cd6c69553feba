"""The development split that a training measures itself on: base boxes only, and never the test split's pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mmengine.dist import barrier, is_main_process

from regionclip.data.annotations.annotation_files import keep_categories, read_boxes
from regionclip.data.datasets.named_boxes_dataset import held_out, some_pictures
from regionclip.data.layout import DetectionSet, Split, detection_set, load_classes, splits
from regionclip.errors import InputError
from regionclip.files import write_json
from regionclip.params.stages import Validation


class Development(NamedTuple):
    """A development split.

    Attributes:
        scenes: Its pictures, and an annotation file of their base boxes.
        split: The split that the pictures are of: "dev" where the data set has one, else "train".
        base_names: Names of its classes, by id; for it there are no others.
        ids: Their category ids.
    """

    scenes: DetectionSet
    split: Split
    base_names: tuple[str, ...]
    ids: tuple[int, ...]
    novel_names: tuple[str, ...] = ()


def taken_out(dataset: str, validation: Validation | None) -> int:
    """Return how many of its pictures a training leaves out at most (see `held_out`), because it validates on them."""
    return validation.images if validation is not None and _of(dataset) == "train" else 0


def write_development(dataset: str, most: int, file: Path, *, key: str) -> Development:
    """Write the base boxes of a data set's development split as an annotation file.

    These are pictures of the split "dev"; of a set without one, the `held_out` pictures of "train", which
    the training must leave out. Novel classes are cut: a number that knew them would choose among detectors by what
    they have no right to know. Pictures without a base box stay.

    Args:
        dataset: Name of the data set.
        most: At most so many pictures.
        file: Where to; the first process of a group writes.
        key: The param that ``most`` is, for messages.

    Raises:
        InputError: No box of a base class is left.
    """
    classes, split = load_classes(dataset), _of(dataset)
    scenes = detection_set(dataset, split)
    if is_main_process():
        content = read_boxes(scenes.annotations, "lvis" if classes.federated else "coco").sound()
        ids = [image["id"] for image in content["images"]]
        chosen = some_pictures(ids, most) if split == "dev" else held_out(ids, most)
        content["images"] = [image for image in content["images"] if image["id"] in chosen]
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in chosen]
        content = keep_categories(content, classes.ids_of(classes.base_names), keep_empty=True)
        if all(entry.get("iscrowd") for entry in content["annotations"]):
            problem = f"the development split, {len(chosen)} pictures, holds no box of a base class"
            raise InputError(problem, file=scenes.annotations, key=key, mend="take more pictures, or do not validate")
        write_json(file, content, indent=None)
    barrier()
    names = classes.base_names
    ordered = tuple(key for key, name in zip(classes.ids, classes.names, strict=True) if name in names)
    return Development(DetectionSet(scenes.images, file), split, names, ordered)


def _of(dataset: str) -> Split:
    return "dev" if "dev" in splits(dataset) else "train"
