"""Folders of data/sets that real files give: whole or absent, the same bytes each time, pictures where they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from regionclip.artifacts import SETS
from regionclip.contracts.boxes import box_checks, box_tables, join_tables
from regionclip.contracts.gate import run_checks
from regionclip.contracts.pictures import image_files_table
from regionclip.contracts.splits import class_table, split_checks
from regionclip.data.annotations.annotation_files import read_boxes
from regionclip.data.annotations.splits import write_detection_set
from regionclip.data.layout import DetectionSet, data_sets, detection_set, load_classes, splits
from regionclip.data.pictures import SEEN, Looked, load_seen
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file, sha256_tree, write_json
from tests.data.conftest import changed


def test_the_same_sources_give_the_same_bytes(real: SimpleNamespace) -> None:
    for root in ("a", "b"):
        for name in ("coco", "lvis"):
            write_detection_set(Path(root), name, getattr(real, name))
    assert sha256_tree("a") == sha256_tree("b")


@pytest.mark.parametrize("name", ["coco", "lvis"])
def test_the_manifest_counts_and_sums_sources_and_results(real: SimpleNamespace, name: str) -> None:
    about = getattr(real, name)
    counts = write_detection_set(SETS, name, about)
    manifest = read_json(f"data/sets/{name}/manifest.json")
    assert (manifest["source"], manifest["classes"], manifest["counts"]) == ("files", "open_vocabulary", counts)
    written = {path.relative_to(f"data/sets/{name}").as_posix() for path in Path(SETS, name).rglob("*.json")}
    assert manifest["sha256"].keys() == written - {"manifest.json"}
    assert all(sha256_file(Path(SETS, name, file)) == digest for file, digest in manifest["sha256"].items())
    for split in ("train", "val"):
        source = Path(getattr(about.files, f"instances_{split}"))
        sizes = {part: len(read_json(source)[part]) for part in ("images", "annotations")}
        assert manifest["sources"][split] == {
            "file": source.name,
            "sha256": sha256_file(source),
            **sizes,
            "set_aside": {},
        }


def test_every_picture_of_every_split_is_found_where_it_was(real: SimpleNamespace) -> None:
    """LVIS's validation pictures lie in train2017 and val2017; nothing is copied, and paths stay relative."""
    for name in ("coco", "lvis"):
        write_detection_set(SETS, name, getattr(real, name))
    assert data_sets() == ("coco", "lvis") and splits("coco") == splits("lvis") == ("train", "val")
    assert detection_set("coco", "train") == DetectionSet(
        Path("sets/train2017"), Path("data/sets/coco/annotations/train.json")
    )
    assert detection_set("coco", "val").images == Path("sets/val2017")
    assert detection_set("lvis", "val") == DetectionSet(Path("sets"), Path("data/sets/lvis/annotations/val.json"))
    assert not list(Path("data").rglob("*.jpg"))
    with pytest.raises(InputError, match="no set 'coco/dev'.*train, val"):
        detection_set("coco", "dev")


@pytest.mark.parametrize("limit", [0.9, 0.0])
def test_bad_records_and_pictures_are_set_aside_up_to_a_limit(real: SimpleNamespace, limit: float) -> None:
    """A box without numbers and a picture that is cut short go, with what belongs to them; the rest is written."""
    source = Path(real.coco.files.instances_train)
    content = read_json(source)
    whole = write_detection_set(Path("before"), "coco", real.coco)
    content["annotations"][0]["bbox"] = ["2", "2", "10", "8"]
    write_json(source, content)
    picture = Path(real.coco.files.images_val) / read_json(real.coco.files.instances_val)["images"][0]["file_name"]
    picture.write_bytes(picture.read_bytes()[:40])
    if not limit:
        with pytest.raises(InputError, match="more than the limit"), Rejects("coco_rejected.jsonl", limit) as rejects:
            write_detection_set(SETS, "coco", real.coco, rejects)
        assert not Path("data/sets/coco").exists() and Path("coco_rejected.jsonl").exists()
        return
    with Rejects("coco_rejected.jsonl", limit) as rejects:
        counts = write_detection_set(SETS, "coco", real.coco, rejects)
    records = [json.loads(line) for line in Path("coco_rejected.jsonl").read_text().splitlines()]
    assert {record["key"] for record in records} >= {"bbox", "file_name"} and counts["rejected"] == len(records)
    assert counts["val_images"] == whole["val_images"] - 1
    kept = read_json("data/sets/coco/annotations/train.json")["annotations"]
    assert content["annotations"][0]["id"] not in {annotation["id"] for annotation in kept}
    listed = read_json("data/sets/coco/manifest.json")["sources"]["train"]["annotations"]
    assert listed == len(content["annotations"]), "the source is counted as it is"


def test_pictures_are_decoded_once(real: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """LVIS shares COCO's, and the gate reads what was seen; a picture that has changed since is decoded again."""
    decoded: list[int] = []
    whole = Image.open
    monkeypatch.setattr(Image, "open", lambda *values, **more: decoded.append(1) or whole(*values, **more))
    seen: dict[Path, Looked] = {}
    with Rejects("x_rejected.jsonl", 0) as rejects:
        counts = [write_detection_set(SETS, name, getattr(real, name), rejects, seen) for name in ("coco", "lvis")]
    pictures = sum(count[f"{split}_images"] for count in counts for split in ("train", "val"))
    assert len(decoded) == len(seen) < pictures, "some are in both sets"
    decoded.clear()

    def look_again() -> list[bool]:
        where, known = detection_set("coco", "train"), load_seen(Path(SETS, name, SEEN) for name in ("coco", "lvis"))
        assert known == seen
        table = image_files_table(box_tables(read_boxes(where.annotations)).images, where.images, seen=known)
        assert (table["real_width"].isna() | (table["real_width"] == table["width"])).all()
        return table["error"].notna().tolist()

    assert not any(look_again()) and decoded == []
    cut = Path(real.coco.files.images_train) / read_json(real.coco.files.instances_train)["images"][0]["file_name"]
    cut.write_bytes(cut.read_bytes()[:-100])
    assert sum(look_again()) == len(decoded) == 1


def test_another_choice_of_classes_replaces_the_whole_set(real: SimpleNamespace) -> None:
    write_detection_set(SETS, "coco", real.coco)
    write_detection_set(SETS, "coco", changed(real.coco, "supervised"))
    assert sorted(path.name for path in Path("data/sets/coco/annotations").iterdir()) == [
        "train.json",
        "val.json",
    ]
    assert len(load_classes("coco").names) == 80


@pytest.mark.parametrize(
    ("name", "change", "lost", "message"),
    [
        (
            "coco",
            {"images_train": "sets/val2017"},
            None,
            r"sets/val2017: the picture '000000000001\.jpg' of inst",
        ),
        ("coco", {"images_val": "nowhere"}, None, r"nowhere: the picture '000000000011\.jpg' of instances_val2017"),
        ("lvis", {"images_val": "sets/val2017"}, None, r"'train2017/000000000021\.jpg' of lvis_v1_val"),
        ("lvis", {}, "sets/val2017", r"'val2017/000000000022\.jpg' of lvis_v1_val"),
        ("coco", {"instances_val": "sets/no.json"}, None, r"sets/no\.json: the file does not exist"),
    ],
)
def test_what_is_not_there_is_named_and_the_old_set_stays(
    real: SimpleNamespace, name: str, change: dict[str, str], lost: str | None, message: str
) -> None:
    write_detection_set(SETS, name, getattr(real, name))
    before = sha256_tree("data")
    if lost:
        shutil.rmtree(lost)
    with pytest.raises(InputError, match=message):
        write_detection_set(SETS, name, changed(getattr(real, name), **change))
    assert sha256_tree("data") == before


@pytest.mark.parametrize("name", ["coco", "lvis"])
def test_the_gate_before_training_accepts_what_is_written(real: SimpleNamespace, name: str) -> None:
    write_detection_set(SETS, name, getattr(real, name))
    sets = {split: detection_set(name, split) for split in splits(name)}
    tables = {split: box_tables(read_boxes(where.annotations, name)) for split, where in sets.items()}
    files = {split: image_files_table(tables[split].images, where.images) for split, where in sets.items()}
    classes = class_table(f"data/sets/{name}/classes.json")
    checks = box_checks(name, join_tables(tables.values()))
    results = run_checks([*checks, *split_checks(name, classes, tables, files)])
    assert len(results) > 20 and not [r for r in results if not r["success"] and r["severity"] == "error"]
