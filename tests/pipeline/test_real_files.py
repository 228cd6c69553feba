"""The pipeline on files in COCO's own form, with imported weights: what the paper's profiles do, on eight pictures.

The stages run in this process, in the order of the graph; DVC's part is proved in test_repro.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.files import read_json, write_json
from regionclip.models.assembly import build_rpn
from regionclip.params import load_params
from regionclip.stages.runner import run_stage
from regionclip.text.class_names import COCO_80

ROOT = Path(__file__).parents[2]
SIZE = (128, 96)
BEFORE = ("data", "check_data", "concepts", "teacher", "text_bank", "rpn", "pseudo_labels", "check_pseudo_labels")


def _annotations(ids: range, names: tuple[str, ...]) -> dict[str, Any]:
    """Two boxes a picture, of classes in turn; ids of the categories have gaps, as COCO's."""
    categories = [{"id": 2 * number + 1, "name": name} for number, name in enumerate(COCO_80)]
    by_name = {entry["name"]: entry["id"] for entry in categories}
    boxes = [(image, name) for image in ids for name in (names[image % len(names)], names[(image + 1) % len(names)])]
    return {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": SIZE[0], "height": SIZE[1]} for i in ids],
        "annotations": [
            {
                "id": number, "image_id": image, "category_id": by_name[name], "iscrowd": 0, "area": 900.0,
                "bbox": [10.0 + 40 * (number % 2), 20.0, 30.0, 30.0],
            }
            for number, (image, name) in enumerate(boxes, 1)
        ],
        "categories": categories,
    }  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with COCO-format files and a CLIP folder, no captions; params are the tiny ones, changed."""
    rng, coco = np.random.default_rng(0), tmp_path / "datasets/coco"
    names = ("person", "cat", "car", "traffic light")  # base, novel, base, and in neither split
    for part, ids in (("train2017", range(1, 5)), ("val2017", range(5, 9))):
        (coco / part).mkdir(parents=True)
        for i in ids:
            pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(coco / part / f"{i:012d}.jpg")
        write_json(coco / f"annotations/instances_{part}.json", _annotations(ids, names))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copytree(ROOT / "regionclip", tmp_path / "regionclip", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    for key, value in {"REGIONCLIP_WORKERS": "0", "REGIONCLIP_DEVICE": "cpu"}.items():
        monkeypatch.setenv(key, value)
    return tmp_path


@pytest.fixture
def write_params(project: Path, clip_path: Path) -> Callable[..., None]:
    """A function that writes params.yaml for these files, with changes to its sections."""

    def write(classes: str = "open_vocabulary", **changes: dict[str, Any]) -> None:
        values = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
        coco = {
            "instances_train": "datasets/coco/annotations/instances_train2017.json",
            "instances_val": "datasets/coco/annotations/instances_val2017.json",
            "images_train": "datasets/coco/train2017",
            "images_val": "datasets/coco/val2017",
            "classes": classes,
        }
        values["data"] = {
            "source": "files", "sets": ["coco"], "demo": None, "files": {"coco": coco, "lvis": None, "captions": None}
        }  # fmt: skip
        values["teacher"] = {"source": "folder", "weights": str(clip_path)}
        values["pretrain"]["weights"] = str(clip_path)
        values["finetune"] |= {"initialisations": ["regionclip"], "lvis": None}
        values["evaluation"]["constrained"] = True
        for section, change in changes.items():
            values[section] |= change
        (project / "params.yaml").write_text(yaml.safe_dump(values))

    return write


def test_supervised_classes_are_all_base(project: Path, write_params: Callable[..., None]) -> None:
    """All 80 classes train and none is novel, so what there is to say of novel classes is nothing."""
    write_params(evaluation={"constrained": False}, classes="supervised")
    for stage in (*BEFORE, "pretrain", "zero_shot"):
        run_stage(stage)
    for stage in ("finetune", "evaluate"):
        run_stage(stage, "coco")
    run_stage("report")
    summary = read_json("reports/summary.json")
    assert summary["open_vocabulary"]["coco"]["regionclip"]["ap50_novel"] is None
    assert summary["open_vocabulary"]["coco"]["regionclip"]["ap50_base"] is not None


def test_imported_student_is_transferred_and_evaluated(project: Path, write_params: Callable[..., None]) -> None:
    write_params()
    for stage in (*BEFORE, "pretrain", "zero_shot"):
        run_stage(stage)
    for stage in ("finetune", "evaluate"):
        run_stage(stage, "coco")
    run_stage("report")
    summary = read_json("reports/summary.json")
    assert list(summary["zero_shot"]) == list(summary["open_vocabulary"]) == ["coco"]
    assert list(summary["open_vocabulary"]["coco"]) == ["regionclip"] and "| – |" in Path(
        "reports/summary.md"
    ).read_text(encoding="utf-8")
    measured = read_json("reports/metrics/evaluate_coco.json")["regionclip"]
    assert measured["protocol"] != measured["constrained_novel"]["protocol"] != measured["constrained_base"]["protocol"]
    assert read_json("reports/metrics/pseudo_labels.json") == {"not_needed": "pretrain.weights is given"}
    assert len(ClipFolder.open("artifacts/pretrain").state_dict()) == len(
        ClipFolder.open("artifacts/teacher").state_dict()
    )


def test_imported_rpn_and_detector_are_measured_without_training(
    project: Path, write_params: Callable[..., None]
) -> None:
    """First train both; then a second run that imports the first one's files gives the same numbers."""
    write_params()
    for stage in (*BEFORE, "pretrain"):
        run_stage(stage)
    for stage in ("finetune", "evaluate"):
        run_stage(stage, "coco")
    first = read_json("reports/metrics/evaluate_coco.json"), read_json("reports/metrics/rpn.json")
    for file in ("artifacts/rpn/rpn.pth", "artifacts/finetune/coco/regionclip.pth"):
        shutil.copy(file, project)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["rpn"]["weights"] = "rpn.pth"
    values["finetune"]["coco"]["weights"] = "regionclip.pth"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    for stage in ("text_bank", "rpn"):
        run_stage(stage)
    for stage in ("finetune", "evaluate"):
        run_stage(stage, "coco")
    assert (read_json("reports/metrics/evaluate_coco.json"), read_json("reports/metrics/rpn.json")) == first
    assert Path("artifacts/history/finetune_coco/regionclip.jsonl").read_text() == ""


def test_an_rpn_of_another_architecture_is_refused_before_anything_is_written(
    project: Path, write_params: Callable[..., None], clip_path: Path
) -> None:
    from regionclip.checkpoints.training_state import publish
    from regionclip.errors import InputError

    params = load_params(ROOT / "tests/tiny.yaml")
    wider = params.rpn.model_copy(update={"anchor_scales": [1.0, 2.0, 4.0, 8.0]})
    model = build_rpn(ClipFolder.open(clip_path), wider, nms_iou=0.7, proposals=5)
    publish(model.state_dict(), "rpn.pth", {"classes": ["person"]})
    write_params()
    for stage in BEFORE[:5]:
        run_stage(stage)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["rpn"]["weights"] = "rpn.pth"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"rpn\.pth, key '.*rpn_(cls|reg).*another shape"):
        run_stage("rpn")
    assert not Path("artifacts/rpn").exists() and not Path("artifacts/proposals").exists()
