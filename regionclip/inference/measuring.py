"""A detector measured on a COCO or LVIS file in one call, by the protocol that fits the file and the detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from regionclip.checkpoints.mmengine_files import read
from regionclip.data.annotations.annotation_files import class_name, is_there, picture_name, sort_records
from regionclip.data.annotations.truth import BoxArrays, BoxColumns, Truth, truth_of
from regionclip.data.layout import ClassList
from regionclip.errors import InputError
from regionclip.evaluation.protocols import PROTOCOLS, measure
from regionclip.files import read_json
from regionclip.inference import BATCH_SIZE
from regionclip.inference.api import RegionCLIP
from regionclip.inference.results import Result

if TYPE_CHECKING:
    from regionclip.inference.vocabulary import Names

Watch = Callable[[Iterable[Result], int], Iterable[Result]]
"""Gets results and how many there will be, and gives them back; for a progress bar."""


class Subject(NamedTuple):
    """What a detector is measured on.

    Attributes:
        truth: What is true.
        images: The folder that its file names start from.
        classes: Of the file; base are those that the detector was trained on boxes of.
        protocol: A key of `PROTOCOLS`.
    """

    truth: Truth
    images: Path
    classes: ClassList
    protocol: str


def read_subject(model: RegionCLIP, file: Path, images: Path) -> Subject:
    """Read a COCO or LVIS file, and choose the protocol.

    LVIS files, whose categories have a frequency, go by ``federated``. Others go by ``generalised`` where the detector
    was trained on boxes of some classes and not of others, and by ``closed_set`` where it was of all or of none.

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
    classes = _classes(model, truth)
    apart = "generalised" if classes.base_names and classes.novel_names else "closed_set"
    return Subject(truth, images, classes, "federated" if federated else apart)


def detect_classes(
    model: RegionCLIP,
    subject: Subject,
    names: Names | None = None,
    *,
    threshold: float | None = None,
    batch_size: int = BATCH_SIZE,
    watch: Watch = lambda found, _: found,
) -> BoxArrays:
    """Detect a file's classes on its pictures.

    Args:
        model: The detector.
        subject: The pictures.
        names: What stands for the classes; None: their names.
        threshold: Least score; None: that of the stage ``evaluate``.
        batch_size: Pictures at a time.
        watch: See `Watch`.

    Raises:
        InputError: A picture cannot be decoded.
    """
    params, dataset, classes = model.files.params, model.files.dataset, subject.classes
    own, most = PROTOCOLS[params.data.sets[dataset].protocol], PROTOCOLS[subject.protocol].max_detections
    least = params.finetune.sets[dataset].score_threshold if threshold is None else threshold
    settings = {"threshold": least, "max_detections": most if most > own.max_detections else None}
    paths = [subject.images / picture_name(image) for image in subject.truth.images]
    found = model.detect(paths, names or list(classes.names), batch_size=batch_size, **settings)
    ids, columns = dict(zip(classes.names, classes.ids, strict=True)), BoxColumns()
    for image, result in zip(subject.truth.images, watch(found, len(paths)), strict=True):
        for row in result.to_coco(image["id"], ids):
            columns.add(row["image_id"], row["category_id"], row["bbox"], score=row["score"])
    return columns.arrays()


def measure_found(subject: Subject, found: BoxArrays) -> dict[str, Any]:
    """Measure the boxes that `detect_classes` gave.

    Returns:
        What `measure` gives; and ``protocol_name``, ``base`` and ``novel``, the classes.
    """
    classes = subject.classes
    # Without novel classes there is one group.
    groups = classes if subject.protocol != "closed_set" else replace(classes, base_names=classes.names, novel_names=())
    numbers = measure(subject.protocol, subject.truth, found, groups)
    return numbers | {"protocol_name": subject.protocol, "base": groups.base_names, "novel": groups.novel_names}


def _classes(model: RegionCLIP, truth: Truth) -> ClassList:
    """Return the file's classes; base are those that the detector was trained on boxes of."""
    names, trained = tuple(map(class_name, truth.categories)), {*read(model.files.detector)[1]["classes"]}
    base = tuple(name for name in names if name in trained)
    novel = tuple(name for name in names if name not in trained)
    frequency = {class_name(one): one["frequency"] for one in truth.categories if "frequency" in one}
    return ClassList(names, tuple(truth.category_ids), base, novel, frequency)
