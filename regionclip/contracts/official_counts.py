"""Contract of public sets: that a profile which names one has the whole of it, told by its published counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.files import read_json
from regionclip.params.data import PUBLIC

Counts = dict[str, int]

_SOURCES: dict[str, dict[str, Counts]] = {
    # https://github.com/cocodataset/cocoapi/issues/117 (boxes, with crowds); pictures as in regionclip/workspace/fetch.
    "coco2017": {
        "instances_train2017.json": {"images": 118_287, "annotations": 860_001},
        "instances_val2017.json": {"images": 5_000, "annotations": 36_781},
    },
    # https://www.lvisdataset.org/dataset, as quoted in https://github.com/lvis-dataset/lvis-api/issues/19 and 32
    "lvis_v1": {
        "lvis_v1_train.json": {"images": 100_170, "annotations": 1_270_141},
        "lvis_v1_val.json": {"images": 19_809, "annotations": 244_707},
    },
}
"""Set -> file under its official name -> what it lists. Files that others derived from it are told by `_DERIVED`."""

_DERIVED: dict[str, dict[str, Counts]] = {
    # Images with a box of the 48 and of the 65 classes: https://github.com/alirezazareian/ovr-cnn/issues/17 (val), and
    # what Detic and its successors state of instances_train2017_seen_2.json (train).
    "coco2017": {
        "open_vocabulary": {
            "train_images": 107_761, "train_categories": 48, "val_images": 4_836, "val_categories": 65,
        },
        "supervised": {
            "train_images": 118_287, "train_categories": 80, "val_images": 5_000, "val_categories": 80,
        },
    },
    "lvis_v1": {
        "open_vocabulary": {"train_categories": 866, "val_images": 19_809, "val_categories": 1_203},
        "supervised": {"train_categories": 1_203, "val_images": 19_809, "val_categories": 1_203},
    },
}  # fmt: skip
"""Set -> choice of classes -> what the splits hold that are made from it, before records are set aside."""

_CAPTIONS: dict[str, Counts] = {
    # captions_train2017.json: https://huggingface.co/datasets/regisss/coco_2017
    "coco_captions": {"images": 118_287, "captions": 591_753},
    # The training split of dataset_flickr30k.json, five captions each; val has 1,014 images and test 1,000.
    "flickr30k": {"images": 29_000, "captions": 145_000},
    # Rows of Train_GCC-training.tsv: https://huggingface.co/datasets/google-research-datasets/conceptual_captions
    "cc3m": {"images": 3_318_333},
}
DYING = frozenset({"cc3m"})
"""Sets of links, of which fewer are alive each year: less than was published is a warning, more is another set."""

CAPTIONED = frozenset(_CAPTIONS)
"""Public sets of captioned images."""


class _Row(NamedTuple):
    file: str
    split: str
    counted: str
    expected: int
    found: int
    unexplained: int


def detection_counts_check(name: str, manifest: Path) -> Check:
    """Return the check of a detection set of official classes by the ``manifest.json`` that stage `data` wrote."""
    about = read_json(manifest)
    official = PUBLIC[about["format"]]
    rows = [row for split in ("train", "val") for row in _split_rows(official, split, about, str(manifest))]
    return _check(f"{name} official counts", official, rows)


def caption_counts_check(official: str, file: Path, listed: Counts) -> Check:
    """Return the check of captioned images: ``CaptionedImages.listed`` of a file against a set of `CAPTIONED`."""
    rows = [
        _Row(str(file), "train", counted, expected, listed[counted], expected - listed[counted])
        for counted, expected in _CAPTIONS[official].items()
    ]
    return _check("scenes official counts", official, rows)


def _split_rows(official: str, split: str, about: dict[str, Any], file: str) -> Iterator[_Row]:
    source, counts = about["sources"][split], about["counts"]
    for counted, expected in _SOURCES[official].get(source["file"], {}).items():
        yield _Row(file, split, f"{counted} of {source['file']}", expected, source[counted], expected - source[counted])
    # What was set aside may have been of the split, with an image's only box.
    parts = ("images", "annotations")
    aside = sum(source[part] - counts[f"{split}_{part}"] - counts[f"{split}_{part}_left_out"] for part in parts)
    for key, expected in _DERIVED[official][about["classes"]].items():
        if key.startswith(split):
            lacking = expected - counts[key]
            explained = 0 < lacking <= aside and key.endswith("images")
            yield _Row(file, split, key.removeprefix(f"{split}_"), expected, counts[key], 0 if explained else lacking)


def _check(suite: str, official: str, rows: list[_Row]) -> Check:
    subset = f"fetch it again; if you use a part of it on purpose, take {official} out of check_data.official"
    severity = WARNING if official in DYING else "critical"
    expectations = [
        Expect("nothing was counted", subset).rows(),
        Expect(f"this is more than {official} has", subset, "counts").between("unexplained", 0),
        Expect(f"this is not the whole of {official}", subset, "counts", severity).between("unexplained", most=0),
    ]
    return Check(suite, pd.DataFrame(rows, columns=_Row._fields), _Row._fields[:5], expectations)
