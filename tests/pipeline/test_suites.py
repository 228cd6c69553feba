"""Data sets by YAML alone: a third one beside the demo's, ODinW's thirteen, and Cityscapes in clear air and in fog."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from regionclip.cli import BY_DATASET
from regionclip.data.layout import DetectionSet, detection_set, load_classes
from regionclip.files import read_json, write_json
from regionclip.params import check_params
from regionclip.stages.runner import run_stage
from regionclip.workspace.convert import convert
from regionclip.workspace.profiles import composed
from tests.conftest import profile_values

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]

# Folder below odinw/ and classes of each set, as GLIP publishes them and MMDetection's configs name them.
ODINW = {
    "AerialMaritimeDrone/large": ("boat", "car", "dock", "jetski", "lift"),
    "Aquarium/Aquarium Combined.v2-raw-1024.coco": (
        *("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"),
    ),
    "CottontailRabbits": ("Cottontail-Rabbit",),
    "EgoHands/generic": ("hand",),
    "NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco": ("CoW", "chanterelle"),
    "Packages/Raw": ("package",),
    "PascalVOC": ("cat", "dog"),
    "pistols/export": ("pistol",),
    "pothole": ("pothole",),
    "Raccoon/Raccoon.v2-raw.coco": ("raccoon",),
    "ShellfishOpenImages/raw": ("Crab", "Lobster", "Shrimp"),
    "thermalDogsAndPeople": ("dog", "person"),
    "VehiclesOpenImages/416x416": ("Ambulance", "Bus", "Car", "Motorcycle", "Truck"),
}


def _coco(pictures: Path, file: Path, classes: tuple[str, ...], seed: int) -> None:
    """Write two pictures of noise with a box of each class, and their annotations with ids from 1."""
    rng = np.random.default_rng(seed)
    pictures.mkdir(parents=True, exist_ok=True)
    images, boxes = [], []
    for number in (1, 2):
        name = f"{seed}_{number}_jpg.rf.0a1b.jpg"
        Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(pictures / name)
        images.append({"id": number, "file_name": name, "width": 128, "height": 96})
        for place in range(len(classes)):
            entry = {"image_id": number, "category_id": place + 1, "bbox": [4 + 14 * place, 20, 12, 30], "area": 360}
            boxes.append(entry | {"id": len(boxes) + 1, "iscrowd": 0})
    categories = [{"id": place, "name": name, "supercategory": "things"} for place, name in enumerate(classes, 1)]
    write_json(file, {"images": images, "annotations": boxes, "categories": categories})


def _odinw(root: Path) -> None:
    for seed, (folder, classes) in enumerate(ODINW.items()):
        for offset, split in enumerate(("train", "valid")):
            pictures, file = root / folder / split, root / folder / split / "annotations_without_background.json"
            if folder.startswith("pistols"):
                pictures = root / folder
                file = pictures / f"{split.removesuffix('id')}_annotations_without_background.json"
            _coco(pictures, file, classes, 2 * seed + offset)


@pytest.fixture
def project(tmp_path: Path, clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], None]:
    """A function that writes tiny params with some of a profile's data sets, into an empty project: the current folder.

    CLIP and student are the tiny CLIP.
    """
    for name in ("dvc.yaml", "regionclip"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")

    def write(profile: str, names: list[str]) -> None:
        values, theirs = profile_values("tiny"), composed(profile)
        values["data"] = {"source": "files", "captions": None, "demo": None, "sets": theirs["data"]["sets"]}
        values["teacher"] = {"source": "folder", "weights": str(clip_path)}
        values["pretrain"]["weights"], values["rpn"]["dataset"] = str(clip_path), names[0]
        tuned, least = values["finetune"]["sets"]["coco"], theirs["zero_shot"]["score_threshold"]
        values["data"]["sets"] = {name: values["data"]["sets"][name] for name in names}
        values["finetune"]["sets"] = dict.fromkeys(names, tuned)
        values["zero_shot"]["score_threshold"] = {name: least[name] for name in names}
        values["raw"] = check_params(values, "params.yaml").raw_paths()
        Path("params.yaml").write_text(yaml.safe_dump(values))

    return write


def _run(*stages: str, sets: list[str]) -> None:
    for stage in stages:
        for name in sets if stage in BY_DATASET else [None]:
            run_stage(stage, name)


BEFORE = ("data", "check_data", "concepts", "teacher", "text_bank", "rpn", "proposals", "pseudo_labels")
AFTER = ("check_pseudo_labels", "pretrain", "zero_shot", "pseudo_boxes", "finetune", "evaluate", "report")


def test_the_profile_of_odinw_finds_all_thirteen_sets(project: Callable[..., None]) -> None:
    """Each where its publisher puts it, with its own classes, all of them base; the gate lets them pass."""
    _odinw(Path("datasets/odinw"))
    sets = list(composed("odinw13_rn50")["data"]["sets"])
    project("odinw13_rn50", sets)
    _run("data", "check_data", sets=sets)
    found = [load_classes(name) for name in sets]
    assert [classes.names for classes in found] == list(ODINW.values())
    assert not any(classes.novel_names for classes in found)
    aquarium = Path("datasets/odinw/Aquarium/Aquarium Combined.v2-raw-1024.coco/valid")
    assert detection_set("aquarium", "val") == DetectionSet(aquarium, Path("data/sets/aquarium/annotations/val.json"))
    assert detection_set("pistols", "train").images == Path("datasets/odinw/pistols/export")
    counts = read_json("reports/metrics/data.json")
    assert all(counts[name]["train_images"] == counts[name]["val_images"] == 2 for name in sets)


@pytest.mark.slow
def test_a_suite_has_a_zero_shot_and_a_fine_tuned_number_of_each_set_and_their_means(
    project: Callable[..., None],
) -> None:
    _odinw(Path("datasets/odinw"))
    sets = ["raccoon", "pistols"]
    project("odinw13_rn50", sets)
    _run(*BEFORE, *AFTER, sets=sets)
    summary = read_json("reports/summary.json")
    assert summary["protocols"] == dict.fromkeys(sets, "closed_set")
    for part, numbers in (
        ("zero_shot", [summary["zero_shot"][name]["rpn"] for name in sets]),
        ("open_vocabulary", [summary["open_vocabulary"][name] for name in sets]),
    ):
        mean = sum(of["regionclip"]["ap"] for of in numbers) / 2
        assert summary["mean"]["closed_set"][part]["regionclip"] == pytest.approx(mean)
    table = Path("reports/summary.md").read_text()
    assert "| mean of 2 sets | zero-shot detection, AP |" in table
    assert "| mean of 2 sets | after fine-tuning on base boxes, AP |" in table


def _street(root: Path, kind: str, split: str, name: str, fog: str, labelled: bool, seed: int) -> None:
    picture = root / kind / split / "ulm" / f"{name}_{kind}{fog}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 192, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    if labelled:
        corners = [(10, 20), (60, 20), (60, 70), (10, 70)]
        objects = [
            {"label": "car", "polygon": corners},
            {"label": "rider", "polygon": [(x + 80, y) for x, y in corners]},
        ]
        file = root / "gtFine" / split / "ulm" / f"{name}_gtFine_polygons.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"imgHeight": 96, "imgWidth": 192, "objects": objects}))


@pytest.mark.slow
def test_what_clear_streets_teach_is_measured_in_fog(project: Callable[..., None]) -> None:
    """From Cityscapes' own folders by `data convert` and the profile to a number of each class in fog."""
    root = Path("datasets/cityscapes")
    for number in range(4):
        _street(root, "leftImg8bit", "train", f"ulm_00000{number}_000019", "", True, number)
    for number in range(2):
        _street(root, "leftImg8bit_foggy", "val", f"ulm_00001{number}_000019", "_beta_0.02", True, 10 + number)
    convert("cityscapes", root, root / "city_train.json", "train")
    convert("foggy_cityscapes", root, root / "foggy_val.json", "val")
    sets = ["cityscapes_to_foggy"]
    project("cityscapes_foggy_rn50", sets)
    _run(*BEFORE, *AFTER, sets=sets)
    assert load_classes(sets[0]).names == ("rider", "car"), "those of which there is a box in fog"
    train, val = (read_json(detection_set(sets[0], split).annotations)["images"] for split in ("train", "val"))
    assert all(image["file_name"].startswith("leftImg8bit/train/") for image in train) and len(train) == 4
    assert all(image["file_name"].startswith("leftImg8bit_foggy/val/") for image in val) and len(val) == 2
    numbers = read_json("reports/metrics/evaluate_cityscapes_to_foggy.json")["regionclip"]
    assert set(numbers["per_class"]) == {"rider", "car"} and numbers["protocol"].startswith("COCO box AP, closed set")


def _third(params: dict[str, Any], folder: Path) -> None:
    """Add ``forklifts`` to params that hold COCO's and LVIS's set: two classes, one of them not in training."""
    for seed, split in enumerate(("train", "val"), 50):
        _coco(folder / split, folder / f"{split}.json", ("fork lift", "pallet"), seed)
    files = {f"instances_{split}": str(folder / f"{split}.json") for split in ("train", "val")}
    files |= {f"images_{split}": str(folder / split) for split in ("train", "val")}
    classes = {"base": ["fork lift"], "novel": ["pallet"]}
    params["data"]["sets"]["forklifts"] = {
        **{"format": "coco", "classes": classes, "protocol": "constrained", "files": files}
    }
    params["finetune"]["sets"]["forklifts"] = params["finetune"]["sets"]["coco"]
    params["zero_shot"]["score_threshold"]["forklifts"] = {"gt": 0.001, "rpn": 0.001}
    params["raw"] = {f"sets/forklifts/{key}": path for key, path in files.items()}


@pytest.mark.slow
def test_a_third_set_is_yaml_alone_and_costs_its_own_stages(copy: Path, command: Command) -> None:
    """Nothing that was trained is trained again; table, MLflow and registry have the set under its own name."""
    file = copy / "params.yaml"
    params = yaml.safe_load(file.read_text())
    _third(params, copy / "datasets/forklifts")
    file.write_text(yaml.safe_dump(params))
    done = command(copy, "dvc", "repro")
    assert done.returncode == 0, done.stderr[-3000:]
    ran = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")}
    own = {
        f"{stage}@forklifts" for stage in ("raw_sets", "proposals", "zero_shot", "pseudo_boxes", "finetune", "evaluate")
    }
    looks = {"data", "check_data", "concepts", "text_bank", "check_pseudo_labels", "report"}
    assert {stage for stage in ran if not stage.startswith("raw@")} == own | looks
    table = (copy / "reports/summary.md").read_text()
    assert "| forklifts | after fine-tuning on base boxes, AP50 novel |" in table
    measured = read_json(copy / "reports/metrics/evaluate_forklifts.json")["regionclip"]
    assert set(measured["per_class"]) == {"fork lift", "pallet"} and "constrained_novel" in measured
    for command_line in (
        ("git", "add", "-A"),
        ("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"),
    ):
        command(copy, *command_line).check_returncode()
    registered = command(copy, "regionclip", "register", "--dataset", "forklifts")
    assert registered.stdout.strip() == "regionclip-forklifts: version 1 is the candidate", registered.stderr[-2000:]
    client = MlflowClient(f"sqlite:///{copy / 'mlruns/mlflow.db'}")
    version = client.get_model_version_by_alias("regionclip-forklifts", "candidate")
    assert version.tags["headline"].split(",")[0] == "ap50_novel" and "ap50_novel" in version.tags
    runs = client.search_runs([client.get_experiment_by_name("regionclip").experiment_id])
    assert "finetune@forklifts" in {run.data.tags.get("dvc.stage") for run in runs}
