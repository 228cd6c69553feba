"""Stage check_data: the gate behind the data; nothing is trained on what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from regionclip import runtime
from regionclip.contracts.boxes import box_checks, join_tables, read_box_tables
from regionclip.contracts.captions import caption_checks, read_caption_tables, read_shards, shard_check
from regionclip.contracts.checkpoint import Check, gate
from regionclip.contracts.images import image_file_check, image_files_table
from regionclip.contracts.splits import read_classes, split_checks
from regionclip.data.layout import DatasetName, captioned_scenes, data_sets, detection_set, splits

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

DATA = Path("data")


def run(context: StageContext) -> dict[str, float]:
    """Check pairs, scenes, coco and lvis; write reports/checks/check_data.json.

    Raises:
        DataCheckFailed: A file breaks its contract (exit code 3).
    """
    demo = context.params.data.source == "demo"
    parts = [_pair_checks()] if demo else []
    parts += [_caption_checks()] if not context.params.pretrain.weights else []
    parts += [_detection_checks(dataset, _supervised(context, dataset)) for dataset in data_sets(DATA)]
    results = gate("check_data", [check for checks, _ in parts for check in checks])
    return {"expectations": len(results), "images": sum(count for _, count in parts)}


def _pair_checks() -> tuple[list[Check], int]:
    pairs = pd.concat([read_shards(DATA / "pairs" / split) for split in ("train", "val")], ignore_index=True)
    return [shard_check("pairs", pairs)], len(pairs)


def _caption_checks() -> tuple[list[Check], int]:
    """Check the captioned scenes: a COCO captions file with every picture, or the first images of tar shards."""
    captions, pictures = captioned_scenes(DATA)
    if captions.suffix != ".json":
        table = read_shards(captions)
        return [shard_check("scenes", table)], len(table)
    scenes = read_caption_tables(captions)
    files = image_files_table(scenes.images, pictures, runtime.workers())
    return [*caption_checks("scenes", scenes), image_file_check("scenes", files)], len(files)


def _supervised(context: StageContext, dataset: DatasetName) -> bool:
    data = context.params.data
    return data.source == "files" and getattr(data.files, dataset).classes == "supervised"


def _detection_checks(dataset: DatasetName, supervised: bool) -> tuple[list[Check], int]:
    sets = {split: detection_set(dataset, split, DATA) for split in splits(dataset, DATA)}
    tables = {split: read_box_tables(where.annotations, dataset) for split, where in sets.items()}
    files = {
        split: image_files_table(tables[split].images, where.images, runtime.workers()) for split, where in sets.items()
    }
    classes = read_classes(DATA / dataset / "classes.json", dataset)
    everything = pd.concat(files.values(), ignore_index=True)
    checks = [
        *box_checks(dataset, join_tables(tables.values()), dataset),
        *split_checks(dataset, dataset, classes, tables, files, supervised=supervised),
        image_file_check(dataset, everything),
    ]
    return checks, len(everything)
