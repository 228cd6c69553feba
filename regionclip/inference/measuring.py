"""A detector measured on a COCO or LVIS file in one call, by the protocol that fits the file and the detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from regionclip.checkpoints.mmengine_files import read
from regionclip.data.annotations.annotation_files import class_name, is_there, picture_name, sort_records
from regionclip.data.annotations.truth import BoxColumns, Truth, truth_of
from regionclip.data.layout import ClassList
from regionclip.errors import InputError
from regionclip.evaluation.protocols import PROTOCOLS, measure
from regionclip.files import read_json
from regionclip.inference.api import RegionCLIP
from regionclip.inference.results import Result

Watch = Callable[[Iterable[Result], int], Iterable[Result]]


def measure_file(
    model: RegionCLIP, file: Path, images: Path, *, batch_size: int = 8, watch: Watch = lambda found, _: found
) -> dict[str, Any]:
    """Detect a file's classes on its pictures and measure the boxes.

    LVIS files, whose categories have a frequency, go by ``federated``. Others go by ``generalised`` where the detector
    was trained on boxes of some classes and not of others, and by ``closed_set`` where it was of all or of none.

    Args:
        model: The detector; it keeps boxes above the score that the stage ``evaluate`` keeps them above.
        file: COCO or LVIS annotations, all sound.
        images: The folder that file names start from.
        batch_size: Pictures at a time.
        watch: Gets the results and how many there will be, and gives them back; for a progress bar.

    Returns:
        What `measure` gives; and ``protocol_name``, a key of `PROTOCOLS`, ``base`` and ``novel``, the classes.

    Raises:
        InputError: The file is broken, or a picture is missing or cannot be decoded.
    """
    truth, federated = read_truth(file, images)
    classes = _classes(model, truth)
    if federated:
        protocol = "federated"
    else:
        protocol = "generalised" if classes.base_names and classes.novel_names else "closed_set"
    # Without novel classes there is one group.
    if protocol == "closed_set":
        classes = ClassList(classes.names, classes.ids, classes.names, (), {})
    params, dataset, most = model.files.params, model.files.dataset, PROTOCOLS[protocol].max_detections
    threshold, own = params.finetune.sets[dataset].score_threshold, PROTOCOLS[params.data.sets[dataset].protocol]
    settings = {"threshold": threshold, "max_detections": most if most > own.max_detections else None}
    paths = [images / picture_name(image) for image in truth.images]
    found, columns = model.detect(paths, list(classes.names), batch_size=batch_size, **settings), BoxColumns()
    ids = dict(zip(classes.names, classes.ids, strict=True))
    for image, result in zip(truth.images, watch(found, len(paths)), strict=True):
        for row in result.to_coco(image["id"], ids):
            columns.add(row["image_id"], row["category_id"], row["bbox"], score=row["score"])
    numbers = measure(protocol, truth, columns.arrays(), classes)
    return numbers | {"protocol_name": protocol, "base": classes.base_names, "novel": classes.novel_names}


def read_truth(file: Path, images: Path) -> tuple[Truth, bool]:
    """Read what is true on pictures, and whether the file is LVIS's.

    Raises:
        InputError: A record is not sound, a picture is not there, or there is none.
    """
    content = read_json(file, without=("segmentation",))
    categories = content.get("categories") if isinstance(content, dict) else None
    federated = any("frequency" in one for one in categories or () if isinstance(one, dict))
    truth = truth_of(sort_records(content, file, "lvis" if federated else "coco", {"name"}), lvis=federated)
    if missing := [picture_name(image) for image in truth.images if not is_there(images, image)]:
        mend = "give the folder that the file names start from with --images"
        raise InputError(f"{len(missing)} pictures are not there, such as {missing[0]!r}", file=images, mend=mend)
    if not truth.images:
        raise InputError("there is no picture", file=file, key="images", mend="give a file with images")
    return truth, federated


def _classes(model: RegionCLIP, truth: Truth) -> ClassList:
    """Return the file's classes; base are those that the detector was trained on boxes of."""
    names, trained = tuple(map(class_name, truth.categories)), {*read(model.files.detector)[1]["classes"]}
    base = tuple(name for name in names if name in trained)
    novel = tuple(name for name in names if name not in trained)
    frequency = {
        name: category["frequency"]
        for name, category in zip(names, truth.categories, strict=True)
        if "frequency" in category
    }
    return ClassList(names, tuple(truth.category_ids), base, novel, frequency)
