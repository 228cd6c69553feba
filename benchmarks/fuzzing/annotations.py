"""Fuzz of annotation files: a small set with faults of every kind, through data init, stage data, gate and loader."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from regionclip.contracts.boxes import box_tables
from regionclip.data.annotations.annotation_files import read_boxes
from regionclip.data.annotations.splits import write_detection_set
from regionclip.data.layout import detection_set, load_classes
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import read_json
from regionclip.params.data import DataSet, OwnClasses, SetFiles
from regionclip.stages.check_data import account_boxes
from regionclip.workspace.own_set import OwnSet, read_own_set

WIDTH, HEIGHT = 24, 16
NAME = "shapes"
SPLITS = {"train": 6, "val": 3}  # pictures
BASE, NOVEL = ["star", "heart"], ["ring"]

Json = dict[str, Any]
NESTED: Any = 1
for _ in range(300):
    NESTED = [NESTED]
ODD = [
    None, True, False, 0, 1, -1, 2, 1.0, 0.5, math.nan, math.inf, 1e308, 10**30, 10**400, 2**63, "", " ", "1", "0", "x",
    "0001", "true", "\ud83d", "\x1b]0;t\x07", "é" * 200, [], [1], {}, {"a": 1}, NESTED,
]  # fmt: skip
NAMES = [
    "../x.png", "/etc/passwd", "C:\\x.png", "a/../../x.png", "train_1.png", "./train_1.png", "no.png", "n" * 300,
    "a\0b", "a/" * 3000 + "b", "..",
]  # fmt: skip
WORDS = ["star", "Star", "stop_sign", "bat (animal)", " ring ", "heart\n", "7", "c+", "c ", "salt, pepper", "ring"]
BOXES = [
    [1, 1, 4, 4], ["1", "1", "4", "4"], [1, 1, 4], [1, 1, 4, 4, 4], [5, 5, -2, 3], [1, 1, 0, 4], [1, 1, 0.5, 4],
    [-1, 0, 1, 4], [-0.5, -0.5, 25, 17], [20, 10, 30, 30], [1, 1, math.nan, 4], [1, 1, 10**400, 4],
    [0, 0, 1e-300, 1e-300], [0, 0, 24, 16], [23.5, 15.5, 1, 1], {"x": 1}, [[1, 1, 4, 4]],
]  # fmt: skip
MASKS = [
    [], [[1, 1, 5, 1, 5, 5]], [[1, 1]], {"counts": [0, 24, 360], "size": [16, 24]}, {"counts": "abc", "size": [16, 24]},
    {"counts": [1], "size": [1, 1]}, "mask", [["a"] * 6],
]  # fmt: skip


def run(folder: Path, rng: random.Random) -> str:
    """Make one set of annotation files, feed it to the product, and account for each box.

    Args:
        folder: An empty folder, or one of an earlier call.
        rng: Decides everything.

    Returns:
        "ok"; "set aside", where records were and are counted; or "refused" with an `InputError`.

    Raises:
        AssertionError: Boxes are lost without a count, or the parts of the product disagree.
    """
    files = {split: folder / f"{split}.json" for split in SPLITS}
    contents = {split: _content(folder, split) for split in SPLITS}
    for split in rng.choices(list(SPLITS), [3, 1], k=rng.randint(1, 5)):
        rng.choice(MUTATIONS)(contents[split], rng)
    # MMEngine collects garbage with each data set: what was loaded before need not be looked through each time.
    gc.freeze()
    for split, file in files.items():
        text = json.dumps(contents[split])
        if rng.random() < 0.02:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice(["", "\0", "é", "}", text[at:] * 2]) + text[at + rng.randint(0, 9) :]
        file.write_text(text, encoding=rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    with contextlib.redirect_stdout(io.StringIO()):
        return _feed(folder, files)


def _feed(folder: Path, files: dict[str, Path]) -> str:
    try:
        own = read_own_set(files, dict.fromkeys(files, folder), None, None)
    except InputError:
        own = None
    classes = own.classes if own else OwnClasses(base=BASE, novel=NOVEL)
    places = {f"instances_{split}": str(file) for split, file in files.items()}
    places |= {f"images_{split}": str(folder) for split in files}
    protocol = "generalised" if classes.novel else "closed_set"
    about = DataSet(format="coco", classes=classes, protocol=protocol, files=SetFiles(**places))
    try:
        with Rejects(folder / f"{NAME}_rejected.jsonl", 1.0) as rejects:
            write_detection_set(folder / "sets", NAME, about, rejects)
    except InputError:
        assert own is None, "what data init takes, stage data refuses"
        return "refused"
    _account(folder / "sets", files, len(rejects), own)
    return "set aside" if len(rejects) else "ok"


def _account(root: Path, files: dict[str, Path], rejected: int, own: OwnSet | None) -> None:
    """Compare what the files hold with what is written, set aside and trained on."""
    sets = {split: detection_set(NAME, split, root) for split in files}
    tables = {split: box_tables(read_boxes(sets[split].annotations)) for split in files}
    accounts = account_boxes(NAME, sets["train"], tables, root)
    manifest, aside = read_json(root / NAME / "manifest.json"), 0
    counts = manifest["counts"]
    for split, file in files.items():
        listed = read_json(file)
        assert tables[split].faults.empty, "the gate finds what the quarantine took for sound"
        assert accounts[split]["file"] == len(listed["annotations"]), "boxes are missing from the count"
        assert accounts[split]["unexplained"] == 0, f"boxes are lost: {accounts[split]}"
        images = len(listed["images"]) - counts[f"{split}_images"] - counts[f"{split}_images_left_out"]
        aside += images + sum(manifest["sources"][split]["set_aside"].values())
    assert aside == rejected, f"{aside} records are set aside, {rejected} are listed with their reason"
    # Data init looks whether pictures are there, and opens none.
    kept = {split: counts[f"{split}_images"] + counts[f"{split}_images_left_out"] for split in files}
    if own is not None and own.images == kept:
        small = accounts["train"]["not_used"].get("below one pixel", 0)
        counted = sum(own.boxes["train"][name] for name in load_classes(NAME, root).base_names)
        assert counted == accounts["train"]["used"] + small, "data init counts other boxes than are trained on"


def _content(folder: Path, split: str) -> Json:
    """Return a sound file of the split: two boxes a picture; its pictures are written once."""
    ids = range(1, SPLITS[split] + 1)
    for number in ids:
        if not (picture := folder / f"{split}_{number}.png").exists():
            Image.new("RGB", (WIDTH, HEIGHT), (number * 9, len(split) * 9, 0)).save(picture)
    boxes = [
        {"id": 10 * i + k, "image_id": i, "category_id": k, "bbox": [6 * k - 5, 2, 5, 6], "area": 30, "iscrowd": 0}
        for i in ids
        for k in (1, 2, 3)
    ]
    return {
        "images": [{"id": i, "file_name": f"{split}_{i}.png", "width": WIDTH, "height": HEIGHT} for i in ids],
        "annotations": copy.deepcopy(boxes),
        "categories": [{"id": k, "name": name} for k, name in enumerate([*BASE, *NOVEL], 1)],
    }


def _some(content: Json, part: str, rng: random.Random) -> list[Json]:
    records = [record for record in content.get(part) or [] if isinstance(record, dict)]
    return records if rng.random() < 0.15 else rng.sample(records, min(len(records), rng.randint(1, 3)))


def _value(part: str, key: str, values: list[Any]) -> Callable[[Json, random.Random], None]:
    def mutate(content: Json, rng: random.Random) -> None:
        value = rng.choice(values)
        for record in _some(content, part, rng):
            record[key] = value

    return mutate


def _kind(part: str, key: str) -> Callable[[Json, random.Random], None]:
    """Write ids in another kind: as texts, floats, huge numbers, some of them or all."""

    def mutate(content: Json, rng: random.Random) -> None:
        kind = rng.choice([str, float, lambda v: f"{v:04}", lambda v: v + 10**30, lambda v: f"img-{v}", lambda v: -v])
        for record in _some(content, part, rng):
            with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
                record[key] = kind(record[key])

    return mutate


def _remove(content: Json, rng: random.Random) -> None:
    part = rng.choice(["images", "annotations", "annotations", "categories"])
    for record in _some(content, part, rng):
        if record:
            record.pop(rng.choice(list(record)))


def _records(content: Json, rng: random.Random) -> None:
    """Records that are there twice, are none, or are not there; sometimes the list itself."""
    part = rng.choice(["images", "annotations", "annotations", "categories"])
    records = content.get(part)
    if not isinstance(records, list) or not records:
        return
    match rng.randrange(5):
        case 0:
            records.append(copy.deepcopy(rng.choice(records)))
        case 1:
            records.insert(rng.randrange(len(records)), rng.choice(ODD))
        case 2:
            records.pop(rng.randrange(len(records)))
        case 3 if rng.random() < 0.3:
            content[part] = rng.choice([None, {}, [], "x", records * 2])
        case _:
            rng.shuffle(records)


def _extra(content: Json, rng: random.Random) -> None:
    keys = ["license", "score", "frequency", "coco_url", "neg_category_ids", "attributes"]
    for record in _some(content, rng.choice(["images", "annotations", "categories"]), rng):
        record[rng.choice(keys)] = rng.choice(ODD)


MUTATIONS: list[Callable[[Json, random.Random], None]] = [
    *(_value(part, "id", ODD) for part in ("images", "annotations", "categories")),
    *(_value("annotations", key, ODD) for key in ("image_id", "category_id", "area", "iscrowd", "ignore", "bbox")),
    *(_value("annotations", key, [0, 1, "1", True, None, "true", 2]) for key in ("iscrowd", "ignore")),
    *(_value("images", key, ODD) for key in ("width", "height", "file_name")),
    *(_value("images", key, [WIDTH, HEIGHT, 1, 25.0]) for key in ("width", "height")),
    _value("images", "file_name", NAMES),
    _value("categories", "name", ODD),
    _value("categories", "name", WORDS),
    *(_value("annotations", "bbox", BOXES) for _ in range(3)),
    _value("annotations", "area", [0, -1, math.nan, "30", 31, 10_000, 10**400]),
    _value("annotations", "segmentation", MASKS),
    *(_kind(*place) for place in (("images", "id"), ("annotations", "id"), ("annotations", "image_id"))),
    *(_kind(*place) for place in (("categories", "id"), ("annotations", "category_id"))),
    _remove,
    _remove,
    _records,
    _records,
    _extra,
]
