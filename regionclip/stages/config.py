"""``regionclip config``: a stage's training and test as one config of MMEngine, for MMDetection's own tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel

from regionclip import artifacts, runtime
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.mmengine_files import publish
from regionclip.data.datasets.detection import boxes_config, test_pipeline
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.training import recipe
from regionclip.errors import InputError
from regionclip.models.assembly import build_pretrainer
from regionclip.params import Params
from regionclip.stages import finetune, pretrain, rpn, zero_shot
from regionclip.text.text_bank import TextBank

BY_DATASET = ("finetune", "zero_shot")


def export(stage: str, params: Params, weights: Path, dataset: str | None, model: str, boxes: str) -> str:
    """Return the config; the model that it starts from is written to ``weights``.

    Args:
        stage: ``rpn``, ``pretrain``, ``finetune`` (which has the test of ``evaluate`` too) or ``zero_shot``, a test.
        params, weights: The whole of params.yaml, and the file.
        dataset, model: For the last two stages: a name, and ``clip`` or ``regionclip``.
        boxes: Of zero_shot: ``rpn``, or ``gt`` for the true boxes.

    Raises:
        InputError: What the stage reads is not there, or is not what it should be.
    """
    if (dataset is None) == (stage in BY_DATASET):
        wanted = "needs" if dataset is None else "has no"
        raise InputError(f"the config of {stage} {wanted} --dataset", mend=f"it is for {' and '.join(BY_DATASET)}")
    if dataset is not None:
        params.require_set(dataset)
    if stage == "rpn":
        start, parts = rpn.build_model(params), recipe(rpn.training_set(params), params.rpn.schedule, params.seed)
    elif stage == "pretrain":
        start = build_pretrainer(ClipFolder.open(artifacts.TEACHER), params.pretrain)
        data = {"type": "ImageTextRegionDataset", **pretrain.training_set(params)}
        parts = _with_bank(recipe(data, params.pretrain.schedule, params.seed), artifacts.CONCEPT_BANK)
        parts["custom_hooks"].append({"type": "TextTowerHook", "clip": str(artifacts.TEACHER)})
    elif stage == "finetune":
        start, parts = _finetune(params, dataset, model)
    else:
        start = zero_shot.build_model(params, dataset, ClipFolder.open(artifacts.CLIP_FOLDERS[model]), boxes)
        proposals = artifacts.proposals(dataset, params.evaluation.split) if boxes == "rpn" else "truth"
        parts = _with_bank(_test(params, dataset, proposals), artifacts.class_bank(dataset))
    publish(start.state_dict(), weights, {})
    return Config(_common(start, weights) | parts).pretty_text


def _common(model: BaseModel, weights: Path) -> dict[str, Any]:
    return {
        "custom_imports": {"imports": ["regionclip.engine.mmdet_tools"], "allow_failed_imports": False},
        "default_scope": "mmdet",
        "model": model.cfg,
        "load_from": str(weights),
        "default_hooks": {
            "logger": {"type": "LoggerHook", "interval": 50},
            "checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 5000, "max_keep_ckpts": 2},
            "strict_load": {"type": "StrictLoadHook"},
        },
        "log_processor": {"by_epoch": False},
        "visualizer": {"type": "DetLocalVisualizer", "vis_backends": [{"type": "LocalVisBackend"}]},
    }


def _finetune(params: Params, dataset: str, name: str) -> tuple[BaseModel, dict[str, Any]]:
    clip, bank = ClipFolder.open(artifacts.CLIP_FOLDERS[name]), artifacts.class_bank(dataset)
    known = TextBank.load(bank).subset(load_classes(dataset).base_names)
    schedule = params.finetune.sets[dataset].schedule
    parts = recipe(finetune.training_set(params, dataset, name), schedule, params.seed)
    test = _test(params, dataset, artifacts.proposals(dataset, params.evaluation.split))
    return finetune.build_model(params, dataset, clip, known, tested=True), _with_bank(parts | test, bank)


def _test(params: Params, dataset: str, proposals: Any) -> dict[str, Any]:
    split, sizes = params.evaluation.split, params.detection
    pictures = boxes_config(
        detection_set(dataset, split), load_classes(dataset).names, test_pipeline(sizes, proposals), training=False
    )
    return {
        "test_dataloader": {
            "dataset": pictures,
            "batch_size": sizes.test_batch,
            "num_workers": runtime.loader_workers(),
            "sampler": {"type": "DefaultSampler", "shuffle": False},
        },
        "test_cfg": {"type": "TestLoop"},
        "test_evaluator": {
            "type": "ProtocolMetric",
            "dataset": dataset,
            "split": split,
            "protocol": params.data.sets[dataset].protocol,
        },
    }


def _with_bank(parts: dict[str, Any], bank: Path) -> dict[str, Any]:
    hook = {"type": "VocabularyHook", "bank": str(bank)}
    return parts | {"custom_hooks": [*parts.get("custom_hooks", []), hook]}
