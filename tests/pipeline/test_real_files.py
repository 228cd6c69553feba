"""The pipeline on files in COCO's own form, with imported weights: what the paper's profiles do, on eight pictures.

The stages run in this process, in the order of the graph; DVC's part is proved in test_repro.py.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.cli import BY_DATASET
from regionclip.files import read_json, write_json
from regionclip.models.assembly import build_rpn
from regionclip.regions.store import RegionStore
from regionclip.stages.runner import run_stage
from regionclip.text.class_names import COCO_80
from tests.conftest import profile_params, profile_values

ROOT = Path(__file__).parents[2]
SIZE = (128, 96)
BEFORE = ("data", "check_data", "concepts", "teacher", "text_bank", "rpn")
LABELS = ("pseudo_labels", "check_pseudo_labels", "pretrain")


def _run(*stages: str, dataset: str = "coco") -> None:
    for stage in stages:
        run_stage(stage, dataset if stage in BY_DATASET else None)


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


@pytest.fixture(scope="module")
def untouched(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with COCO-format files, no captions, and an empty MLflow store; no stage has run."""
    folder = tmp_path_factory.mktemp("untouched")
    rng, coco = np.random.default_rng(0), folder / "datasets/coco"
    names = ("person", "cat", "car", "traffic light")  # base, novel, base, and in neither split
    for part, ids in (("train2017", range(1, 5)), ("val2017", range(5, 9))):
        (coco / part).mkdir(parents=True)
        for i in ids:
            pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(coco / part / f"{i:012d}.jpg")
        write_json(coco / f"annotations/instances_{part}.json", _annotations(ids, names))
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copytree(ROOT / "regionclip", folder / "regionclip", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mlruns").mkdir()
    shutil.copy(template, folder / "mlruns")
    return folder


def _enter(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.chdir(folder)
    for key, value in {"REGIONCLIP_WORKERS": "0", "REGIONCLIP_DEVICE": "cpu"}.items():
        patch.setenv(key, value)
    return folder


@pytest.fixture
def project(untouched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which is the current one."""
    return _enter(Path(shutil.copytree(untouched, tmp_path / "project")), monkeypatch)


@pytest.fixture(scope="module")
def whole(untouched: Path, write_params: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which all stages have run, with an imported student."""
    folder = Path(shutil.copytree(untouched, tmp_path_factory.mktemp("whole") / "project"))
    with pytest.MonkeyPatch.context() as patch:
        _enter(folder, patch)
        write_params()
        _run(*BEFORE, "proposals", *LABELS, "zero_shot", "pseudo_boxes", "finetune", "evaluate", "report")
    return folder


@pytest.fixture
def transferred(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that one, which is the current folder."""
    return _enter(Path(shutil.copytree(whole, tmp_path / "transferred")), monkeypatch)


@pytest.fixture(scope="module")
def write_params(clip_path: Path) -> Callable[..., None]:
    """A function that writes params.yaml of these files into the current folder: the tiny ones, with changes."""

    def write(classes: str = "open_vocabulary", protocol: str = "constrained", **changes: dict[str, Any]) -> None:
        values = profile_values("tiny")
        coco = {
            "instances_train": "datasets/coco/annotations/instances_train2017.json",
            "instances_val": "datasets/coco/annotations/instances_val2017.json",
            "images_train": "datasets/coco/train2017",
            "images_val": "datasets/coco/val2017",
        }
        about = {"format": "coco", "classes": classes, "protocol": protocol, "files": coco}
        values["data"] = {"source": "files", "sets": {"coco": about}, "captions": None, "demo": None}
        values["teacher"] = {"source": "folder", "weights": str(clip_path)}
        values["pretrain"]["weights"] = str(clip_path)
        values["finetune"]["initialisations"] = ["regionclip"]
        for of_set in (values["finetune"]["sets"], values["zero_shot"]["score_threshold"]):
            del of_set["lvis"]
        for section, change in changes.items():
            values[section] |= change
        Path("params.yaml").write_text(yaml.safe_dump(values))

    return write


@pytest.mark.slow  # the protocol's numbers: tests/evaluation; the profiles: tests/test_profiles.py
def test_supervised_classes_are_all_base(transferred: Path, write_params: Callable[..., None]) -> None:
    """All 80 classes train and none is novel, so what there is to say of novel classes is nothing.

    Teacher and student are imported, whatever the classes; every stage that knows of classes runs again.
    """
    write_params(classes="supervised", protocol="closed_set")
    _run(
        "data",
        "check_data",
        "text_bank",
        "rpn",
        "proposals",
        "zero_shot",
        "pseudo_boxes",
        "finetune",
        "evaluate",
        "report",
    )
    summary = read_json("reports/summary.json")
    assert list(summary["open_vocabulary"]["coco"]["regionclip"]) == ["ap", "ap50"]
    assert summary["open_vocabulary"]["coco"]["regionclip"]["ap50"] is not None


def test_imported_student_is_transferred_and_evaluated(transferred: Path) -> None:
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


def test_imported_rpn_and_detector_are_measured_without_training(transferred: Path) -> None:
    """Both were trained; a second run that imports the first one's files gives the same numbers."""
    first = read_json("reports/metrics/evaluate_coco.json"), read_json("reports/metrics/proposals_coco.json")
    for file in ("artifacts/rpn/rpn.pth", "artifacts/finetune/coco/regionclip.pth"):
        shutil.copy(file, transferred)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["rpn"]["weights"] = "rpn.pth"
    values["finetune"]["sets"]["coco"]["weights"] = "regionclip.pth"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    _run("text_bank", "rpn", "proposals", "pseudo_boxes", "finetune", "evaluate")
    assert (read_json("reports/metrics/evaluate_coco.json"), read_json("reports/metrics/proposals_coco.json")) == first
    assert Path("artifacts/history/finetune_coco/regionclip.jsonl").read_text() == ""


def test_an_rpn_of_another_architecture_is_refused_before_anything_is_written(
    transferred: Path, clip_path: Path
) -> None:
    from regionclip.checkpoints.mmengine_files import publish
    from regionclip.errors import InputError

    params = profile_params("tiny")
    wider = params.rpn.model_copy(update={"anchor_scales": [1.0, 2.0, 4.0, 8.0]})
    model = build_rpn(ClipFolder.open(clip_path), wider, nms_iou=0.7, proposals=5)
    publish(model.state_dict(), "rpn.pth", {"classes": ["person"]})
    for made in ("rpn", "proposals"):
        shutil.rmtree(Path("artifacts", made))
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["rpn"]["weights"] = "rpn.pth"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"rpn\.pth, key '.*rpn_(cls|reg).*another shape"):
        run_stage("rpn")
    assert not Path("artifacts/rpn").exists()


SENTENCES = (
    "a person and a car",
    "a red car by a person",
    "two cats",
    "a traffic light and a cat",
    "a person with a cat",
)


def _write_captioned(form: str) -> dict[str, str | None]:
    """Write eight captioned pictures in a form; return ``data.captions``.

    ``cc3m``: tar shards as img2dataset writes them; ``tsv``: the official code's; ``flickr30k``: a Karpathy JSON.
    """
    folder = Path("datasets", form)
    folder.mkdir()
    rng, records = np.random.default_rng(1), []
    for number in range(8):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)).save(file, "JPEG")
        records.append((f"{number:09d}", file.getvalue(), SENTENCES[number % len(SENTENCES)]))
    if form == "cc3m":
        for shard in (0, 1):
            with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
                for key, picture, sentence in records[shard::2]:
                    about = f'{{"caption": "{sentence}", "key": "{key}", "status": "success"}}'.encode()
                    for suffix, content in (("jpg", picture), ("txt", sentence.encode()), ("json", about)):
                        member = tarfile.TarInfo(f"{key}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
        return {"file": str(folder), "images": None}
    if form == "tsv":
        pictures = [f"{key}\t{base64.b64encode(picture).decode()}\n" for key, picture, _ in records]
        (folder / "images.tsv").write_text("".join(pictures))
        (folder / "text.tsv").write_text("".join(f"{key}\t{sentence}\n" for key, _, sentence in records))
        return {"file": str(folder), "images": None}
    (folder / "flickr30k-images").mkdir()
    for key, picture, _ in records:
        (folder / "flickr30k-images" / f"{key}.jpg").write_bytes(picture)
    if form == "jsonl":
        lines = [{"image": f"flickr30k-images/{key}.jpg", "caption": sentence} for key, _, sentence in records]
        (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return {"file": str(folder / "captions.jsonl"), "images": None}
    images = [
        {"sentids": [n], "filename": f"{key}.jpg", "split": "train", "sentences": [{"raw": sentence}]}
        for n, (key, _, sentence) in enumerate(records)
    ]
    images.append(images[0] | {"filename": "of_test.jpg", "split": "test"})
    write_json(folder / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
    return {"file": str(folder / "dataset_flickr30k.json"), "images": str(folder / "flickr30k-images")}


@pytest.mark.slow  # each form's reader: tests/data/captions
@pytest.mark.parametrize("form", ["cc3m", "flickr30k", "jsonl", "tsv"])
def test_captioned_pictures_are_read_in_their_own_form_by_every_stage(
    project: Path, write_params: Callable[..., None], form: str
) -> None:
    """From the gate to a pretrained student, all eight pictures."""
    captions = _write_captioned(form)
    write_params(pretrain={"weights": None})
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["data"]["captions"] = captions
    Path("params.yaml").write_text(yaml.safe_dump(values))
    _run(*BEFORE, "proposals", *LABELS)
    measured = ("data", "check_data", "pseudo_labels", "check_pseudo_labels")
    shown = {stage: read_json(f"reports/metrics/{stage}.json") for stage in measured}
    counted = {"shards": 2} if form in {"cc3m", "tsv"} else {"images": 8, "captions": 8, "rejected": 0}
    assert shown["data"]["scenes"].items() >= counted.items()
    assert shown["check_data"]["images"] == 8 + 4 + 4, "captioned ones, and those of both splits"
    assert shown["check_data"]["rejected"] == shown["pseudo_labels"]["rejected"] == 0
    assert Path("artifacts/concepts/concepts.csv").read_text().startswith("person,")
    store = RegionStore.open("artifacts/pseudo_labels")
    assert len(store) == shown["check_pseudo_labels"]["images"] == 8
    assert {Path(str(identity)).stem.zfill(9) for identity in store.image_ids} == {f"{n:09d}" for n in range(8)}
    assert len(Path("artifacts/history/pretrain.jsonl").read_text().splitlines()) > 0
    student, teacher = (ClipFolder.open(f"artifacts/{name}").state_dict() for name in ("pretrain", "teacher"))
    assert any(not student[key].equal(value) for key, value in teacher.items())
    index = Path(f"datasets/.{form}.index.arrow")
    assert index.exists() == (form in {"cc3m", "tsv"}), "shards are indexed once, beside them"


def _write_lvis() -> dict[str, Any]:
    """Write six pictures in LVIS's own form, told by their addresses only; return the set."""
    rng = np.random.default_rng(2)
    classes = (("cup", "f"), ("bow_(weapon)", "c"), ("car_(automobile)", "f"), ("flower_arrangement", "r"))
    categories = [{"id": 3 * n + 1, "name": name, "frequency": f} for n, (name, f) in enumerate(classes)]
    for split, folders in (("train", ["train2017"] * 4), ("val", ["train2017", "val2017"])):
        images, boxes = [], []
        for number, folder in enumerate(folders, 100 if split == "train" else 200):
            file = Path("datasets/coco", folder, f"{number:012d}.jpg")
            Image.fromarray(rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)).save(file)
            images.append(
                {
                    "id": number, "coco_url": f"http://images.cocodataset.org/{folder}/{file.name}", "width": SIZE[0],
                    "height": SIZE[1], "neg_category_ids": [], "not_exhaustive_category_ids": [],
                }
            )  # fmt: skip
            for place, category in enumerate(categories):
                x = 4.0 + 30 * place
                corners = [x, 20.0, x + 24, 20.0, x + 24, 50.0, x, 50.0]
                boxes.append(
                    {
                        "id": len(boxes) + 1, "image_id": number, "category_id": category["id"], "area": 720.0,
                        "bbox": [x, 20.0, 24.0, 30.0], "segmentation": [corners],
                    }
                )  # fmt: skip
        write_json(f"datasets/lvis_v1_{split}.json", {"images": images, "annotations": boxes, "categories": categories})
    files = {f"instances_{split}": f"datasets/lvis_v1_{split}.json" for split in ("train", "val")}
    files |= {f"images_{split}": "datasets/coco" for split in ("train", "val")}
    return {"format": "lvis", "classes": "open_vocabulary", "protocol": "federated", "files": files}


@pytest.mark.slow
def test_lvis_files_go_to_an_evaluated_detector(project: Path, write_params: Callable[..., None]) -> None:
    """Two classes of the frequent ones and a common one are trained on, masks too; the rare one is novel."""
    write_params()
    values, lvis = yaml.safe_load(Path("params.yaml").read_text()), _write_lvis()
    values["data"]["sets"] = {"lvis": lvis}
    values["rpn"]["dataset"] = "lvis"
    target = values["finetune"]["sets"]["coco"] | {"masks": True, "score_mode": "sigmoid"}
    values["finetune"]["sets"] = {"lvis": target}
    values["zero_shot"]["score_threshold"] = {"lvis": values["zero_shot"]["score_threshold"]["coco"]}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    _run(*BEFORE, "proposals", *LABELS, "zero_shot", "pseudo_boxes", "finetune", "evaluate", dataset="lvis")
    counts = read_json("reports/metrics/data.json")["lvis"]
    assert (counts["train_annotations"], counts["train_categories"], counts["val_categories"]) == (12, 3, 4)
    assert read_json("reports/metrics/evaluate_lvis.json")["regionclip"]["apr"] is not None
