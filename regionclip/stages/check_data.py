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
from regionclip.data.layout import DatasetName, detection_set

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

DATA = Path("data")
SPLITS = ("train", "dev", "val")


def run(context: StageContext) -> dict[str, float]:
    """Check pairs, scenes, coco and lvis; write reports/checks/check_data.json.

    Raises:
        DataCheckFailed: A file breaks its contract (exit code 3).
    """
    pairs = pd.concat([read_shards(DATA / "pairs" / split) for split in ("train", "val")], ignore_index=True)
    scenes = read_caption_tables(DATA / "scenes/captions.json")
    scene_files = image_files_table(scenes.images, DATA / "scenes/images", runtime.workers())
    checks = [shard_check("pairs", pairs), *caption_checks("scenes", scenes), image_file_check("scenes", scene_files)]
    images = len(pairs) + len(scene_files)
    for dataset in ("coco", "lvis"):
        found, count = _detection_checks(dataset)
        checks += found
        images += count
    results = gate("check_data", checks)
    return {"expectations": len(results), "images": images}


def _detection_checks(dataset: DatasetName) -> tuple[list[Check], int]:
    sets = {split: detection_set(dataset, split, DATA) for split in SPLITS}
    tables = {split: read_box_tables(where.annotations, dataset) for split, where in sets.items()}
    files = {
        split: image_files_table(tables[split].images, where.images, runtime.workers()) for split, where in sets.items()
    }
    classes = read_classes(DATA / dataset / "classes.json", dataset)
    everything = pd.concat(files.values(), ignore_index=True)
    checks = [
        *box_checks(dataset, join_tables(tables.values()), dataset),
        *split_checks(dataset, dataset, classes, tables, files),
        image_file_check(dataset, everything),
    ]
    return checks, len(everything)
