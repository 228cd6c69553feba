"""Stage check_data: the gate behind the data; nothing is trained on what it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import pandas as pd
from rich.console import Console
from rich.table import Table

from regionclip import artifacts, runtime
from regionclip.artifacts import DATA, SETS
from regionclip.contracts.boxes import (
    BoxTables,
    account_check,
    box_account,
    box_checks,
    box_tables,
    join_tables,
    mask_check,
)
from regionclip.contracts.captions import captioned_check, read_captioned
from regionclip.contracts.gate import Check, counts_of, gate
from regionclip.contracts.official_counts import CAPTIONED, caption_counts_check, detection_counts_check
from regionclip.contracts.pages import quarantine_page, read_rejected
from regionclip.contracts.pictures import Pictures, image_file_check, image_files_table, shared_picture_check
from regionclip.contracts.splits import TRAIN, box_profile, class_table, drift_check, earlier_check, split_checks
from regionclip.contracts.text import twin_check
from regionclip.data.annotations.annotation_files import read_boxes
from regionclip.data.captions import open_captioned_images
from regionclip.data.datasets.named_boxes_dataset import NamedBoxesDataset
from regionclip.data.layout import PICTURES, DetectionSet, captioned_scenes, detection_set, load_classes, splits
from regionclip.data.pictures import SEEN, Looked, load_seen
from regionclip.data.rejects import Rejects
from regionclip.errors import DataCheckFailed
from regionclip.files import read_json, write_json
from regionclip.stages.context import StageContext
from regionclip.text.prompts import TEMPLATE_SETS, same_to_clip

STAGE = "check_data"
MOST_CAPTIONED = 10_000  # images; of millions the first ones are looked at, the readers meet the others


@dataclass
class _Part:
    """What one set gives: its checks, its pictures, and the profiles and accounts of its boxes by split."""

    checks: list[Check]
    pictures: list[Pictures]
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)


def run(context: StageContext) -> dict[str, Any]:
    """Check pairs, scenes and detection sets; write reports/checks/check_data.json and box_profile.json, and Data Docs.

    Raises:
        DataCheckFailed: A file breaks its contract (exit code 3).
    """
    params = context.params
    # Each file is decoded once, here or in the stage before, whatever sets share it.
    seen = load_seen(SETS / dataset / SEEN for dataset in params.data.sets)
    captioned = {}
    if params.data.source == "demo":
        captioned["pairs"] = {split: (DATA / "pairs" / split, None) for split in (TRAIN, "val")}
    if not params.pretrain.weights:
        captioned["scenes"] = {TRAIN: captioned_scenes(DATA)}
    parts = [_captioned(context, name, places, seen) for name, places in captioned.items()]
    boxes = {dataset: _detection(context, dataset, seen) for dataset in params.data.sets}
    parts += boxes.values()
    pictures = [picture for part in parts for picture in part.pictures]
    rejected = read_rejected(artifacts.DATA_REJECTED, artifacts.rejected(STAGE))
    shared = shared_picture_check(pictures, known=frozenset(_public(context, "lvis_v1")))
    write_json(artifacts.BOX_PROFILE, {dataset: part.profiles for dataset, part in boxes.items()})
    checks = [check for part in parts for check in part.checks]
    accounts = {dataset: part.accounts for dataset, part in boxes.items()}
    _show(accounts)
    page = {"Quarantine": quarantine_page(rejected)}
    about, verdict = {"boxes": accounts}, artifacts.verdict(STAGE)
    results = gate(STAGE, [*checks, shared], pages=page, about=about, tracker=context.tracker, verdict=verdict)
    counted = sum(len(picture.table) for picture in pictures)
    return {**counts_of(results), "images": counted, "rejected": len(rejected), "boxes": accounts}


def _show(accounts: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print the account of boxes: so many in the file, so many used, the rest by reason."""
    shown = Table("set", "split", "boxes in the file", "used", "not used", box=None)
    for dataset, of_split in accounts.items():
        for split, account in of_split.items():
            reasons = ", ".join(f"{count} {why}" for why, count in account["not_used"].items())
            shown.add_row(dataset, split, str(account["file"]), str(account["used"]), reasons)
    Console(highlight=False, markup=False).print(shown)


def _captioned(
    context: StageContext, name: str, places: Mapping[str, tuple[Path, Path | None]], seen: dict[Path, Looked]
) -> _Part:
    """Check captioned images by split: all of a JSON, or the first of tar shards and other large files.

    Real captions stay as they are, and their readers set bad ones aside; of the demo world's none may be bad.
    """
    params, demo = context.params, context.params.data.source == "demo"
    tolerance = 0.0 if demo else params.quarantine.max_fraction
    tables, pictures, counts = [], [], []
    with Rejects(artifacts.rejected(STAGE), 1.0 if demo else tolerance) as rejects:
        for split, (captions, folder) in places.items():
            source = open_captioned_images(captions, folder, rejects)
            most = None if captions.suffix == ".json" else MOST_CAPTIONED
            table = read_captioned(source, most, runtime.workers(), seen)
            for bad in source.rejected if demo else ():
                raise DataCheckFailed(bad.problem, file=bad.file, record=bad.record, key=bad.key, mend=bad.mend)
            images = table.drop_duplicates(["file", "key"])
            # A key names a picture in its shard, as a file name does in its folder.
            files = images["file"] + "/" + images["key"] if source.shards else images["file"]
            pictures.append(Pictures(name, split, images.assign(file=files, id=images["key"]), trained=split == TRAIN))
            tables.append(table)
            # Counting shards makes the index that the stages after this one read them by.
            official = [each for each in params.check_data.official if each in CAPTIONED]
            counts += [caption_counts_check(each, captions, source.listed) for each in official]
    return _Part([captioned_check(name, pd.concat(tables, ignore_index=True), tolerance), *counts], pictures)


def _demanded(context: StageContext, dataset: str, profiles: dict[str, dict[str, Any]]) -> list[Check]:
    """Return the checks that the profile asks for: official counts, and the boxes of an earlier run."""
    params, checks = context.params.check_data, []
    if dataset in [name for official in params.official for name in _public(context, official)]:
        checks.append(detection_counts_check(dataset, SETS / dataset / "manifest.json"))
    if params.box_profile is not None:
        file = Path(params.box_profile)
        earlier = read_json(file)
        if isinstance(earlier, dict) and dataset not in earlier and earlier.keys() & context.params.data.sets.keys():
            print(f"check_data: {dataset} is new since {file}, and not compared with it")
        else:
            checks.append(earlier_check(dataset, file, profiles))
    return checks


def _public(context: StageContext, official: str) -> list[str]:
    """Return the data sets that are a public one, by its name."""
    return [name for name, of in context.params.data.sets.items() if of.files and of.public == official]


def _detection(context: StageContext, dataset: str, seen: dict[Path, Looked]) -> _Part:
    about, masks = context.params.data.sets[dataset], context.params.finetune.sets[dataset].masks
    sets = {split: detection_set(dataset, split) for split in splits(dataset)}
    # Messages name the user's file, from which the one in data/ was made.
    files = {split: Path(getattr(about.files, f"instances_{split}", of.annotations)) for split, of in sets.items()}
    tables = {
        split: box_tables(read_boxes(where.annotations, about.format, shown=files[split]), masks=masks)
        for split, where in sets.items()
    }
    pictures = {
        split: image_files_table(tables[split].images, where.images, runtime.workers(), seen)
        for split, where in sets.items()
    }
    classes = class_table(SETS / dataset / "classes.json")
    base = classes.loc[classes["split"] == "base", "id"].tolist()
    profiles = {split: box_profile(table, base) for split, table in tables.items()}
    accounts = account_boxes(dataset, sets[TRAIN], tables)
    whole = join_tables(tables.values())
    checks = [
        *box_checks(dataset, whole),
        *([mask_check(dataset, whole.annotations)] if masks else []),
        *split_checks(dataset, classes, tables, pictures, supervised=not about.has_novel),
        account_check(dataset, files, accounts),
        _class_names(context, dataset, classes),
        image_file_check(dataset, pd.concat(pictures.values(), ignore_index=True)),
        drift_check(dataset, TRAIN, profiles),
        *_demanded(context, dataset, profiles),
    ]
    looked = [Pictures(dataset, split, table, trained=split == TRAIN) for split, table in pictures.items()]
    return _Part(checks, looked, profiles, accounts)


def account_boxes(
    dataset: str, train: DetectionSet, tables: Mapping[str, BoxTables], root: Path = SETS
) -> dict[str, dict[str, Any]]:
    """Return by split where the boxes of its file go, training boxes by the training's own data set.

    ``tables`` hold what stage `data` wrote of each split below ``root``; of the accounts see `box_account`.
    """
    manifest = read_json(root / dataset / "manifest.json") if (root / dataset / PICTURES).exists() else None
    classes = load_classes(dataset, root)
    accounts = {}
    for split, table in tables.items():
        aside = table.faults.loc[table.faults["part"] == "annotations", "fault"].value_counts().to_dict()
        source, left_out = {"annotations": len(table.annotations) + sum(aside.values()), "set_aside": aside}, 0
        if manifest:
            source, left_out = manifest["sources"][split], manifest["counts"][f"{split}_annotations_left_out"]
        if split != TRAIN:
            accounts[split] = box_account(table.annotations, source, left_out)
            continue
        base = classes.ids_of(classes.base_names)
        objects = table.annotations["unused"].isna() & table.annotations["category_id"].isin(list(base))
        used = _trained(train, classes.base_names) if objects.any() and table.faults.empty else 0
        accounts[split] = box_account(table.annotations, source, left_out, base, used)
    return accounts


def _trained(scenes: DetectionSet, names: Sequence[str]) -> int:
    """Return how many boxes MMDetection's data set gives to the training."""
    found = NamedBoxesDataset(**NamedBoxesDataset.config(scenes, names, training=True), pipeline=[])
    instances = (instance for i in range(len(found)) for instance in found.get_data_info(i)["instances"])
    return sum(not instance["ignore_flag"] for instance in instances)


def _class_names(context: StageContext, dataset: str, classes: pd.DataFrame) -> Check:
    """Check, by the teacher's tokenizer, that CLIP can tell the classes apart."""
    teacher = context.params.teacher
    name = f"local-dir:{teacher.weights}" if teacher.source == "folder" else teacher.model
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except (AssertionError, AttributeError, OSError, KeyError, ValueError):
        # It is trained here, or a file; what is wrong with a folder, the stage `teacher` tells.
        length = teacher.architecture.text_cfg.context_length if teacher.architecture else None
        tokenizer = open_clip.SimpleTokenizer(context_length=length or open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    templates = TEMPLATE_SETS[context.params.text_bank.templates]
    names = classes["name"].tolist()
    return twin_check(dataset, classes, same_to_clip(names, templates, tokenizer))
