"""Stage check_data: the gate behind the data; nothing is trained on what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from regionclip import runtime
from regionclip.contracts.boxes import box_checks, join_tables, read_box_tables
from regionclip.contracts.captions import (
    caption_checks,
    captioned_check,
    read_caption_tables,
    read_captioned,
    read_shards,
)
from regionclip.contracts.checkpoint import Check, counts_of, gate
from regionclip.contracts.drift import box_profile, drift_check, earlier_check
from regionclip.contracts.images import image_file_check, image_files_table
from regionclip.contracts.official_counts import CAPTIONED, NAMES, caption_counts_check, detection_counts_check
from regionclip.contracts.quarantine_page import quarantine_page, read_rejected
from regionclip.contracts.shared_pictures import Pictures, shared_picture_check
from regionclip.contracts.splits import TRAIN, read_classes, split_checks
from regionclip.data.captions import open_captioned_images
from regionclip.data.layout import DatasetName, captioned_scenes, data_sets, detection_set, splits
from regionclip.data.pictures import SEEN, Looked, load_seen
from regionclip.data.rejects import SUFFIX
from regionclip.files import write_json
from regionclip.stages.rejected import FOLDER, set_aside

if TYPE_CHECKING:
    from regionclip.params import CheckData
    from regionclip.stages.runner import StageContext

STAGE = "check_data"
DATA, BOX_PROFILE = Path("data"), Path("reports/checks/box_profile.json")
MOST_CAPTIONED = 10_000  # images; of millions the first ones are looked at, the readers meet the others


@dataclass
class _Part:
    """What one set gives: its checks, its pictures, and the profiles of its boxes."""

    checks: list[Check]
    pictures: list[Pictures]
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)


def run(context: StageContext) -> dict[str, Any]:
    """Check pairs, scenes, coco and lvis; write reports/checks/check_data.json and box_profile.json, and Data Docs.

    Raises:
        DataCheckFailed: A file breaks its contract (exit code 3).
    """
    params = context.params
    demo, parts = params.data.source == "demo", []
    # Each file is decoded once, here or in the stage before, whatever sets share it.
    seen = load_seen(DATA / dataset / SEEN for dataset in data_sets(DATA))
    if demo:
        parts.append(_pairs())
    if not params.pretrain.weights:
        # Real captions stay as they are, and their readers set bad ones aside; boxes were cleaned when written.
        parts.append(_scenes() if demo else _captioned(context, seen))
    boxes = {dataset: _detection(context, dataset, seen) for dataset in data_sets(DATA)}
    parts += boxes.values()
    pictures = [picture for part in parts for picture in part.pictures]
    rejected = read_rejected(DATA / "rejected", FOLDER / f"{STAGE}{SUFFIX}")
    shared = shared_picture_check(pictures, known=frozenset() if demo else frozenset({"lvis"}))
    write_json(BOX_PROFILE, {dataset: part.profiles for dataset, part in boxes.items()})
    checks = [check for part in parts for check in part.checks]
    results = gate(STAGE, [*checks, shared], pages={"Quarantine": quarantine_page(rejected)})
    counted = sum(len(picture.table) for picture in pictures)
    return {**counts_of(results), "images": counted, "rejected": len(rejected)}


def _pairs() -> _Part:
    tables = {split: read_shards(DATA / "pairs" / split) for split in ("train", "val")}
    check = captioned_check("pairs", pd.concat(tables.values(), ignore_index=True))
    return _Part([check], [_of_shards("pairs", split, table) for split, table in tables.items()])


def _scenes() -> _Part:
    """Check the demo world's captioned scenes."""
    captions, pictures = captioned_scenes(DATA)
    scenes = read_caption_tables(captions)
    files = image_files_table(scenes.images, pictures, runtime.workers())
    checks = [*caption_checks("scenes", scenes), image_file_check("scenes", files)]
    return _Part(checks, [Pictures("scenes", TRAIN, files, trained=True)])


def _captioned(context: StageContext, seen: dict[Path, Looked]) -> _Part:
    """Check real captioned images: all of a JSON, or the first of tar shards and other large files."""
    captions, pictures = captioned_scenes(DATA)
    with set_aside(context, STAGE) as rejects:
        source = open_captioned_images(captions, pictures, rejects)
        most = None if captions.suffix == ".json" else MOST_CAPTIONED
        table = read_captioned(source, most, runtime.workers(), seen)
        named = [name for name in context.params.check_data.official if name in CAPTIONED]
        # Counting shards makes the index that the stages after this one read them by.
        counts = [caption_counts_check(name, captions, source.listed) for name in named]
    images = table.drop_duplicates(["file", "key"])
    check = captioned_check("scenes", table, context.params.quarantine.max_fraction)
    return _Part([check, *counts], [_of_shards("scenes", TRAIN, images)])


def _of_shards(name: str, split: str, table: pd.DataFrame) -> Pictures:
    # A key names a picture in its shard, as a file name does in its folder.
    named = table.assign(file=table["file"] + "/" + table["key"], id=table["key"])
    return Pictures(name, split, named, trained=split == TRAIN)


def _demanded(params: CheckData, dataset: DatasetName, profiles: dict[str, dict[str, Any]]) -> list[Check]:
    """Return the checks that the profile asks for: official counts, and the boxes of an earlier run."""
    checks = []
    if NAMES[dataset] in params.official:
        checks.append(detection_counts_check(dataset, DATA / dataset / "manifest.json"))
    if params.box_profile is not None:
        checks.append(earlier_check(dataset, Path(params.box_profile), profiles))
    return checks


def _supervised(context: StageContext, dataset: DatasetName) -> bool:
    """Whether every class is base: so it is chosen, or the user names no novel ones."""
    data = context.params.data
    if data.source != "files":
        return False
    classes = getattr(data.files, dataset).classes
    return classes == "supervised" if isinstance(classes, str) else not classes.novel


def _detection(context: StageContext, dataset: DatasetName, seen: dict[Path, Looked]) -> _Part:
    sets = {split: detection_set(dataset, split, DATA) for split in splits(dataset, DATA)}
    tables = {split: read_box_tables(where.annotations, dataset) for split, where in sets.items()}
    files = {
        split: image_files_table(tables[split].images, where.images, runtime.workers(), seen)
        for split, where in sets.items()
    }
    classes = read_classes(DATA / dataset / "classes.json", dataset)
    base = classes.loc[classes["split"] == "base", "id"].tolist()
    profiles = {split: box_profile(table, base) for split, table in tables.items()}
    checks = [
        *box_checks(dataset, join_tables(tables.values()), dataset),
        *split_checks(dataset, dataset, classes, tables, files, supervised=_supervised(context, dataset)),
        image_file_check(dataset, pd.concat(files.values(), ignore_index=True)),
        drift_check(dataset, TRAIN, profiles),
        *_demanded(context.params.check_data, dataset, profiles),
    ]
    pictures = [Pictures(dataset, split, table, trained=split == TRAIN) for split, table in files.items()]
    return _Part(checks, pictures, profiles)
