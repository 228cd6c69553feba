"""Stages that train measure themselves on the development split, on base classes alone, in a tiny world."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.mmengine_files import read
from regionclip.data.datasets.detection import boxes_config, build_dataset
from regionclip.data.datasets.development import taken_out, write_development
from regionclip.data.datasets.named_boxes_dataset import held_out
from regionclip.data.layout import PICTURES, detection_set, load_classes
from regionclip.errors import InputError
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.models.assembly import build_pretrainer
from regionclip.params.stages import Validation
from regionclip.stages import finetune, pretrain, rpn
from tests.stages.conftest import Context, propose

VALIDATION = {"interval": 2, "images": 6, "patience": None}


def _validations(file: str) -> list[dict[str, float]]:
    lines = map(json.loads, Path("artifacts/history", file).read_text().splitlines())
    return [line for line in lines if any(name.startswith("validation_") for name in line)]


def test_rpn_validates_and_ends_as_without(context: Context) -> None:
    """Four steps, validated after two and four; what later stages read is equal bit by bit."""
    validated, plain = context(VALIDATION), context(None)
    rpn.run(plain)
    weights = Path("artifacts/rpn/rpn.pth").read_bytes()
    assert not Path("artifacts/rpn/best").exists()
    rpn.run(validated)
    assert Path("artifacts/rpn/rpn.pth").read_bytes() == weights
    lines = _validations("rpn.jsonl")
    assert [line["step"] for line in lines] == [2, 4]
    assert validated.tracker.files == ["validation_2.png", "validation_4.png"]
    best = max(lines, key=lambda line: line["validation_ar100_base"])
    meta = read("artifacts/rpn/best/rpn.pth")[1]
    assert meta["step"] == str(best["step"]) and meta["ar100_base"] == f"{best['validation_ar100_base']:.6f}"


@pytest.mark.parametrize("dataset", ["coco", pytest.param("lvis", marks=pytest.mark.slow)])
def test_finetuning_validates_and_ends_as_without(context: Context, dataset: str) -> None:
    """As above; LVIS with masks, which are not measured."""
    for split in ("train", "dev"):
        propose(dataset, split)
    finetune.run(context(None, dataset))
    weights = Path("artifacts/finetune", dataset, "clip.pth").read_bytes()
    validated = context(VALIDATION, dataset)
    finetune.run(validated)
    assert Path("artifacts/finetune", dataset, "clip.pth").read_bytes() == weights
    lines = _validations(f"finetune_{dataset}/clip.jsonl")
    assert [line["step"] for line in lines] == [2, 4] and len(validated.tracker.files) == 2
    assert all(set(line) == {"step", "validation_ap_base", "validation_ap50_base"} for line in lines)
    assert set(read(f"artifacts/finetune/{dataset}/best/clip.pth")[1]) > {
        "step",
        PROTOCOLS[validated.params.data.sets[dataset].protocol].chooses,
    }


def test_pretraining_is_measured_by_the_names_of_true_boxes(context: Context) -> None:
    """Of the set that the RPN learns from."""
    made = context(VALIDATION)
    clip = ClipFolder.open("artifacts/teacher")
    model = build_pretrainer(clip, made.params.pretrain)
    numbers, samples = pretrain._validation(made, clip).measure(model)
    assert set(numbers) == {"top1_base", "class_mean_top1_base"} and 0 <= numbers["top1_base"] <= 1
    assert len(samples) == 4 and all(len(sample.pred_instances) == len(sample.gt_instances) for sample in samples)


def test_development_split_has_its_pictures_and_base_boxes_alone(context: Context, tmp_path: Path) -> None:
    split = write_development("coco", 3, tmp_path / "d.json", key="k")
    whole = json.loads(detection_set("coco", "dev").annotations.read_text())
    content = json.loads((tmp_path / "d.json").read_text())
    ids = [image["id"] for image in content["images"]]
    assert len(ids) == 3 and set(ids) < {image["id"] for image in whole["images"]}
    assert split.split == "dev" and taken_out("coco", Validation(interval=5)) == 0
    base = {entry["id"] for entry in whole["categories"] if entry["name"] in load_classes("coco").base_names}
    wanted = [
        entry["id"] for entry in whole["annotations"] if entry["image_id"] in ids and entry["category_id"] in base
    ]
    assert sorted(entry["id"] for entry in content["annotations"]) == sorted(wanted)
    assert len(wanted) < sum(entry["image_id"] in ids for entry in whole["annotations"])
    assert {entry["id"] for entry in content["categories"]} == base == set(split.ids)


def test_real_data_give_training_pictures_for_it(context: Context, world: Path, tmp_path: Path) -> None:
    """Of 16 pictures a tenth is one, which the training does not see; the validation split is not there to be read."""
    Path("data/sets").unlink()
    Path("data/sets/coco/annotations").mkdir(parents=True)
    shutil.copy(world / "sets/coco/classes.json", "data/sets/coco")
    shutil.copy(world / "sets/coco/annotations/train.json", "data/sets/coco/annotations/train.json")
    Path("data/sets/coco", PICTURES).write_text(json.dumps({"train": str(world / "sets/coco/train"), "val": "nowhere"}))
    split = write_development("coco", 1000, tmp_path / "d.json", key="k")
    assert split.split == "train" and taken_out("coco", Validation(interval=5, images=7)) == 7
    assert taken_out("coco", None) == 0
    held = {image["id"] for image in json.loads((tmp_path / "d.json").read_text())["images"]}
    scenes, names = detection_set("coco", "train"), load_classes("coco").base_names
    sets = [build_dataset(boxes_config(scenes, names, [], training=True, held_out=count)) for count in (0, 7)]
    whole, rest = ({dataset.get_data_info(i)["img_id"] for i in range(len(dataset))} for dataset in sets)
    assert len(held) == 1 and rest == whole - held and len(rest) == len(whole) - 1


def test_held_out_pictures_do_not_depend_on_order_and_are_a_tenth_at_most() -> None:
    """The same in any order; fewer are some of more; the choice is spread, not the first ids."""
    assert held_out(range(100), 1000) == held_out(range(99, -1, -1), 1000)
    assert len(held_out(range(100), 1000)) == 10 and held_out(range(9), 5) == held_out(range(100), 0) == frozenset()
    assert held_out(range(100), 4) < held_out(range(100), 9)
    assert max(held_out(range(100), 10)) > 50


def test_split_without_a_base_box_is_named(context: Context, tmp_path: Path) -> None:
    Path("data/sets").unlink()
    Path("data/sets/coco/annotations").mkdir(parents=True)
    classes = {"classes": [{"id": 1, "name": "cat", "split": "base"}, {"id": 2, "name": "dog", "split": "novel"}]}
    Path("data/sets/coco/classes.json").write_text(json.dumps(classes))
    box = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    image = {"id": 1, "file_name": "1.png", "width": 20, "height": 20}
    content = {
        "images": [image],
        "annotations": [box],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    detection_set("coco", "dev").annotations.write_text(json.dumps(content))
    with pytest.raises(InputError, match="1 pictures, holds no box of a base class") as caught:
        write_development("coco", 5, tmp_path / "d.json", key="rpn.schedule.validation.images")
    assert caught.value.key == "rpn.schedule.validation.images" and not (tmp_path / "d.json").exists()
