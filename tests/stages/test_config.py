"""Exported configs: MMDetection's own tools train and test with them as the stages do."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from regionclip import artifacts, cli
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.containers import read_container
from regionclip.data.annotations.truth import boxes_by_image, load_truth
from regionclip.data.captions import open_captioned_images
from regionclip.data.layout import captioned_scenes, detection_set, load_classes
from regionclip.engine import mmdet_tools
from regionclip.engine.detection import detect
from regionclip.engine.history_hook import HistoryHook
from regionclip.errors import InputError
from regionclip.evaluation.protocols import measure
from regionclip.files import read_json
from regionclip.params import Params, load_params
from regionclip.regions.store_writer import RegionStoreWriter
from regionclip.stages import finetune, pretrain, rpn
from regionclip.text.text_bank import TextBank
from tests.conftest import profile_values

STEPS, CONCEPTS = 10, 7


@pytest.fixture(scope="module")
def made(clip_path: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that trainings read: the tiny world, random proposals, labels and banks, untrained CLIPs."""
    root, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    values = profile_values("tiny")
    for section in (values["rpn"], values["pretrain"], *values["finetune"]["sets"].values()):
        section["schedule"] |= {"iterations": STEPS, "milestones": [8], "batch_size": 2, "warmup_iterations": 3}
    values["finetune"]["sets"]["lvis"] |= {"score_threshold": 0.0, "max_detections": 300}
    values["finetune"]["sets"]["lvis"] |= {"fusion": {"base": 0.2, "novel": 0.6}, "box_voting": 0.4}
    values["finetune"]["frozen_stages"] = 4
    values["detection"] |= {"group_by_aspect": True, "test_proposals": 100}
    values["pretrain"]["whole_image_box"] = "canvas"
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    (root / "data").symlink_to(world)
    for name in ("teacher", "pretrain"):
        shutil.copytree(clip_path, root / "artifacts" / name)
    clip = ClipFolder.open(clip_path)
    for dataset in ("coco", "lvis"):
        _bank(root / f"artifacts/text_bank/{dataset}.safetensors", load_classes(dataset, world / "sets").names, clip)
        for split in ("train", "val"):
            truth = boxes_by_image(
                load_truth(detection_set(dataset, split, world / "sets").annotations, lvis=dataset == "lvis")
            )
            with RegionStoreWriter(root / f"artifacts/proposals/{dataset}/{split}", {"made_by": "test"}) as writer:
                for image_id, (boxes, _) in truth.items():
                    found = np.concatenate([_boxes(rng), boxes]).astype(np.float32)
                    writer.add(image_id, found, rng.normal(size=len(found)).astype(np.float32))
    bank = _bank(root / "artifacts/concept_bank/concepts.safetensors", [f"concept {n}" for n in range(CONCEPTS)], clip)
    made_with = {"bank_sha256": bank.sha256, "teacher_sha256": clip.weights_sha256}
    width, captions = clip.model_cfg["embed_dim"], open_captioned_images(*captioned_scenes(world))
    with RegionStoreWriter(root / "artifacts/pseudo_labels", made_with, k=2, caption_width=width) as writer:
        for record in captions:
            index = np.stack([rng.permutation(CONCEPTS)[:2] for _ in range(8)])
            texts = {caption: rng.normal(size=width) for caption in record.captions}
            writer.add(int(record.key), _boxes(rng), np.zeros(8), index, np.tile([0.7, 0.2], (8, 1)), texts)
    return root


def _bank(path: Path, names: Sequence[str], clip: ClipFolder) -> TextBank:
    dice = torch.Generator().manual_seed(len(names))
    embeddings = torch.randn(len(names), clip.model_cfg["embed_dim"], generator=dice)
    bank = TextBank(tuple(names), embeddings, ("{}.",), "test", clip.weights_sha256)
    bank.save(path)
    return bank


def _boxes(rng: np.random.Generator) -> np.ndarray:
    start = rng.uniform(0, 90, (8, 2))
    return np.concatenate([start, start + rng.uniform(16, 90, (8, 2))], axis=1).astype(np.float32)


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A copy, as the working folder of one process with one thread."""
    shutil.copytree(made, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    for name, value in {"REGIONCLIP_DEVICE": "cpu", "REGIONCLIP_WORKERS": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    return load_params()


def _tool(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Path:
    """Run one of MMDetection's tools; return the folder of its run's numbers."""
    options = ["--work-dir", "work", "--cfg-options", "log_processor.window_size=1", "default_hooks.logger.interval=1"]
    monkeypatch.setattr(sys, "argv", ["mmdet_tools", *arguments, *options])
    mmdet_tools.main()
    (folder,) = (path for path in Path("work").iterdir() if path.is_dir())
    return folder


def _losses(file: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in line.items() if "loss" in key} for line in lines]


def _run_rpn(context: SimpleNamespace) -> None:
    rpn._train(context, rpn.build_model(context.params), None)


def _run_pretrain(context: SimpleNamespace) -> None:
    pretrain.run(context)


def _run_finetune(context: SimpleNamespace) -> None:
    clip, dataset = ClipFolder.open(artifacts.CLIP_FOLDERS["regionclip"]), context.dataset
    bank = TextBank.load(artifacts.TEXT_BANKS / f"{dataset}.safetensors").subset(load_classes(dataset).base_names)
    model = finetune.build_model(context.params, dataset, clip, bank)
    finetune._train(context, model, "regionclip", [HistoryHook(artifacts.HISTORIES / "finetune.jsonl", None)])


@pytest.mark.parametrize(
    ("stage", "dataset", "run"),
    [
        ("rpn", None, _run_rpn),
        pytest.param("pretrain", None, _run_pretrain, marks=pytest.mark.slow),
        pytest.param("finetune", "lvis", _run_finetune, marks=pytest.mark.slow),
    ],
)
def test_mmdetections_tool_trains_as_the_stage(
    project: Params, monkeypatch: pytest.MonkeyPatch, stage: str, dataset: str | None, run: Callable
) -> None:
    """The same losses in the first ten steps."""
    chosen = ["--dataset", dataset] if dataset else []
    assert cli.main(["config", stage, *chosen, "-o", "exported/config.py"]) == 0
    numbers = _tool(monkeypatch, "train", "exported/config.py")
    theirs = _losses(numbers / "vis_data/scalars.json")
    run(SimpleNamespace(params=project, dataset=dataset, digest="0" * 64, scratch=Path("scratch"), tracker=None))
    ours = _losses(Path(f"artifacts/history/{stage}.jsonl"))
    assert len(theirs) == len(ours) == STEPS and ours[0].keys() == theirs[0].keys() and len(ours[0]) > 2
    assert ours[-1] != ours[0]
    if stage == "pretrain":
        _check_text_tower(Path(f"work/iter_{STEPS}.pth"))
    for mine, his in zip(ours, theirs, strict=True):
        assert his == pytest.approx(mine, rel=1e-4, abs=1e-6)


def _check_text_tower(checkpoint: Path) -> None:
    """Nothing of it is in the model, all of it in the checkpoint, so that this is a whole CLIP."""
    start = torch.load("exported/config.pth", weights_only=True)["state_dict"]
    assert not any(key.startswith("text_tower.") for key in start)
    state = read_container(checkpoint).tensors
    teacher = ClipFolder.open(artifacts.TEACHER).state_dict()
    wanted = {key: value for key, value in teacher.items() if not key.startswith(("visual.", "logit_scale"))}
    found = {key: value for key, value in state.items() if key.startswith("text_tower.")}
    assert wanted and found.keys() == {f"text_tower.{key}" for key in wanted}
    assert all(torch.equal(found[f"text_tower.{key}"], value) for key, value in wanted.items())


@pytest.mark.parametrize("stage", ["finetune", pytest.param("zero_shot", marks=pytest.mark.slow)])
def test_mmdetections_tool_measures_as_the_stage(project: Params, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Of the weights that the config starts from: the same numbers, of boxes and of masks."""
    assert cli.main(["config", stage, "--dataset", "lvis", "-o", "config.py"]) == 0
    numbers = read_json(next(_tool(monkeypatch, "test", "config.py", "config.pth").glob("*.json")))
    from mmengine.config import Config

    from regionclip.models.assembly import _build

    model = _build(Config.fromfile("config.py").model)
    model.load_state_dict(torch.load("config.pth", weights_only=True)["state_dict"])
    bank = TextBank.load(artifacts.TEXT_BANKS / "lvis.safetensors")
    found = detect(model, "lvis", "val", project.detection, artifacts.proposals("lvis", "val"), bank, "stage")
    truth = load_truth(detection_set("lvis", "val").annotations, lvis=True, masks=stage == "finetune")
    wanted = measure("federated", truth, found, load_classes("lvis"))
    assert len(found) > 100 and numbers["lvis/ap"] == wanted["ap"] > 0 and numbers["lvis/apr"] == wanted["apr"]
    for name, value in wanted["per_class"].items():
        assert numbers[f"lvis/per_class.{name}"] == value
    assert ("segm" in wanted) == (stage == "finetune")
    if "segm" in wanted:
        assert numbers["lvis/segm.ap"] == wanted["segm"]["ap"]


def test_without_a_file_the_config_is_shown(project: Params, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "rpn"]) == 0
    shown = capsys.readouterr()
    assert "load_from = 'rpn.pth'" in shown.out and "the model's weights are in rpn.pth" in shown.err
    assert "max_iters=10" in shown.out and "start_factor=0.001" in shown.out and Path("rpn.pth").is_file()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(["finetune"], "config of finetune needs --dataset"), (["rpn", "--dataset", "coco"], "of rpn has no --dataset")],
)
def test_a_data_set_is_named_where_there_is_one(
    project: Params, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["config", *arguments]) == 2 and problem in capsys.readouterr().err


def test_a_checkpoint_that_does_not_fit_is_refused(project: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["config", "zero_shot", "--dataset", "coco", "-o", "config.py"]) == 0
    checkpoint = torch.load("config.pth", weights_only=True)
    del checkpoint["state_dict"]["roi_head.shared_head.layer4.0.conv1.weight"]
    torch.save(checkpoint, "lacking.pth")
    with pytest.raises(InputError, match=r"lacking\.pth, key 'roi_head\.shared_head\.layer4\.0\.conv1\.weight'"):
        _tool(monkeypatch, "test", "config.py", "lacking.pth")
