"""The card says what is known, marks what is not, and shows the data's names as text."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from regionclip.checkpoints.mmengine_files import publish, read
from regionclip.evaluation.detection_errors import KINDS
from regionclip.files import write_json
from regionclip.inference.calibration import Calibration, Curve
from regionclip.inference.card import model_card, shortened
from regionclip.inference.files import read_bundle, workspace_files, write_bundle

TAGS = {
    **{"data.md5": "d.dir", "split": "val", "protocol": "COCO box AP", "git.sha": "abc", "git.dirty": "true"},
    **{"dvc.lock.md5": "lock", "profile": "tiny", "seed": "0", "finetune.run_id": "f1", "package.torch": "2.11"},
}
LOST = {kind: {"all": 0.0, "base": 0.0, "novel": None} for kind in KINDS}
AFTER = {
    "per_class": {"star": 0.5, "crown": 0.25, "<b>|`x`": 0.1}, "ap50_novel": 0.5,
    "errors": {
        "ap50_lost": LOST | {"localisation": {"all": 0.25}, "missed": {"all": 0.125}},
        "surest": {"detections": 9, "score": 0.5, "right": 5, **dict.fromkeys(KINDS, 0), "duplicate": 4},
    },
    "true_boxes": {"top1_base": 0.75, "top1_novel": 0.125},
}  # fmt: skip
GATE = {"success": True, "expectations": 2, "failed": 0, "warnings": 1}
RESULTS = [
    {"artefact": "coco pictures across splits", "column": "twin", "problem": "the same picture is in two splits"},
    {"artefact": "coco images", "column": "width", "problem": "no width"},
    {"artefact": "lvis pictures across splits", "column": "twin", "problem": "of another set"},
    {"artefact": "pictures across sets", "column": "leak", "problem": "looks alike"},
    {"artefact": "pictures across sets", "column": "likely_leak", "problem": "looks alike", "unexpected": 3},
]


@pytest.fixture
def root(workspace: Path, tmp_path: Path) -> Path:
    """The workspace with numbers, and a dvc.lock that names them."""
    folder = tmp_path / "workspace"
    shutil.copytree(workspace, folder)
    account = {split: {"file": 9, "used": 8, "not_used": {}} for split in ("train", "val")}
    results = [{"success": True, "unexpected": 0} | result for result in RESULTS]
    reports: dict[str, Any] = {
        "metrics/evaluate_coco.json": {"regionclip": AFTER},
        "metrics/zero_shot_coco.json": {"gt": {"regionclip": {"top1_base": 0.5, "top1_novel": 0.25}}},
        "metrics/data.json": {"coco": {"train_images": 4, "val_images": 2}},
        "metrics/check_data.json": {"boxes": {"coco": account}},
        "checks/check_data.json": GATE | {"results": results},
    }
    outs = []
    for name, content in reports.items():
        write_json(folder / "reports" / name, content)
        digest = hashlib.md5((folder / "reports" / name).read_bytes()).hexdigest()
        outs.append({"path": f"reports/{name}", "md5": digest})
    (folder / "dvc.lock").write_text(yaml.safe_dump({"stages": {"all": {"outs": outs}}}))
    return folder


def test_card_of_a_whole_workspace(root: Path, tmp_path: Path) -> None:
    curve = Curve(1.0, 0.0, {"0.9": 0.5}, 30)
    Calibration(("star",), curve, None, "d", "t").save(tmp_path / "calibration.json")
    files = replace(workspace_files(root, "coco", "regionclip"), calibration=tmp_path / "calibration.json")
    card = model_card(files, root, "regionclip-coco", TAGS)
    for line in (
        "Trained on boxes of 2 classes: star, fish.",
        "Measured, but never trained, on boxes of 2 classes: crown, &#60;b&#62;&#124;&#96;x&#96;.",
        'model = RegionCLIP.open("models:/regionclip-coco@candidate")  # or the folder that holds this file',
        "| train | 4 | 9 | 8 |",
        "Sum of data/sets/coco: `d.dir`. Numbers below are of the split val.",
        "- Boxes: the generated demo world, free of others' rights.",
        "| AP50 novel | – | 50.0 |",
        "| coco | novel classes | – | – | 25.0 | 12.5 |",
        "The gate on the data passed: 2 expectations, 0 failed, 1 warnings. Leakage, looked for before training:",
        "- coco pictures across splits: the same picture is in two splits: none",
        "- pictures across sets: looks alike: 3 records",
        "| 90% | 0.500 | – |",
        "What costs most, in points of AP50 over all classes: right name, box too far off (25.0), "
        "object with no detection on or near it (12.5), right box, another name of its group (0.0).",
        "| one object found once more | – | 4 |",
        "- Git commit: `abc`, with changes that are in no commit",
        "- MLflow run of finetune: `f1`",
        "- Packages: torch 2.11",
    ):
        assert line in card.splitlines(), line
    assert "of another set" not in card and "no width" not in card


def test_classes_of_pseudo_boxes_stand_apart(root: Path) -> None:
    files = workspace_files(root, "coco", "regionclip")
    state, meta = read(files.detector)
    publish(state, files.detector, meta | {"pseudo_box_classes": ["crown"]})
    card = model_card(files, root, "regionclip-coco", TAGS).splitlines()
    assert (
        "Trained on boxes of 2 classes: star, fish." in card and "Trained on pseudo boxes of 1 classes: crown." in card
    )
    assert "Measured, but never trained, on boxes of 1 classes: &#60;b&#62;&#124;&#96;x&#96;." in card


def test_reports_of_another_run_are_not_quoted(root: Path) -> None:
    """dvc.lock names other bytes."""
    for name in ("metrics/zero_shot_coco", "metrics/check_data", "checks/check_data"):
        write_json(
            root / f"reports/{name}.json", {"success": True, "results": [], "boxes": {}, "gt": {"regionclip": {}}}
        )
    card = model_card(workspace_files(root, "coco", "regionclip"), root, "regionclip-coco", TAGS)
    assert "How many pictures and boxes there were is not known here." in card
    assert "Whether the data passed their gate is not known here." in card
    assert "| coco | novel classes | – | – | – | 12.5 |" in card and "Not calibrated" in card


def test_public_sets_bring_their_licences(root: Path) -> None:
    files = workspace_files(root, "coco", "regionclip")
    params = files.params.model_copy(deep=True)
    where = {"instances_train": "a", "instances_val": "b", "images_train": "c", "images_val": "d"}
    of = params.data.sets["coco"]
    params.data.sets["coco"] = of.model_copy(update={"files": where})
    captions = type("Captions", (), {"file": "x/coco/annotations/captions_train2017.json"})
    params = params.model_copy(update={"data": params.data.model_copy(update={"captions": captions})})
    card = model_card(replace(files, params=params), root, "regionclip-coco", TAGS)
    assert "- Boxes: coco2017, annotations CC BY 4.0" in card and "- Captions: coco2017, annotations" in card


def test_card_travels_in_the_bundle(root: Path, tmp_path: Path) -> None:
    files = workspace_files(root, "coco", "regionclip")
    (tmp_path / "card").write_text("# A card\n")
    write_bundle(replace(files, card=tmp_path / "card"), tmp_path / "first")
    write_bundle(read_bundle(tmp_path / "first"), tmp_path / "second")
    assert (tmp_path / "second/README.md").read_text() == "# A card\n"


def test_a_description_has_whole_sections() -> None:
    card = "# a\n\n## b\n\nbb\n\n## c\n\n" + "c" * 100
    assert shortened(card, 200) == card
    assert shortened(card, 90) == "# a\n\n## b\n\nbb\n\nThe whole card is README.md in the bundle.\n"
