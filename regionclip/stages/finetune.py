"""Stage finetune: transfer CLIP and RegionCLIP to one data set's base classes, on stored proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import is_main_process
from mmengine.model import BaseModel

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import publish
from regionclip.checkpoints.official import detector_weights
from regionclip.data.annotations.leakage import assert_no_novel
from regionclip.data.datasets import stream  # noqa: F401  (registered)
from regionclip.data.datasets.detection import boxes_config, build_dataset, stream_config, train_pipeline
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.history_hook import HistoryHook, leave_empty
from regionclip.engine.training import train
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import finetune_settings
from regionclip.params import Params
from regionclip.text.text_bank import TextBank

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext


def run(context: StageContext) -> None:
    """Write artifacts/finetune/DATASET/INITIALISATION.pth, trained alike or taken from the target's ``weights``."""
    dataset, params = context.dataset, context.params
    target = getattr(params.finetune, dataset)
    bank = TextBank.load(artifacts.TEXT_BANKS / f"{dataset}.safetensors").subset(load_classes(dataset).base_names)
    for name in params.finetune.initialisations:
        clip = ClipFolder.open(artifacts.CLIP_FOLDERS[name])
        model = build_model(params, dataset, clip, bank)
        history = artifacts.HISTORIES / f"finetune_{dataset}" / f"{name}.jsonl"
        with context.model_run(name) as tracker:
            if target.weights:
                load_strictly(model, detector_weights(target.weights, bank.embeddings), target.weights)
                leave_empty(history)
            else:
                _train(context, model, name, HistoryHook(history, tracker))
        meta = {"classes": list(bank.names), "clip_sha256": clip.weights_sha256, "bank_sha256": bank.sha256}
        if is_main_process():
            file = artifacts.FINETUNED / dataset / f"{name}.pth"
            publish(model.state_dict(), file, {**meta, "stage_digest": context.digest})


def build_model(params: Params, dataset: str, clip: ClipFolder, bank: TextBank) -> BaseModel:
    """Build the detector as its training starts from, with a bank of the base classes as vocabulary."""
    target = getattr(params.finetune, dataset)
    bank.require(width=clip.model_cfg["embed_dim"])
    settings = finetune_settings(params.finetune, target, len(bank.names))
    torch.manual_seed(params.seed)
    model = build_detector(clip, settings, params.finetune.frozen_stages, masks=target.masks)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(bank.embeddings)
    return model


def training_set(params: Params, dataset: str) -> dict[str, Any]:
    """Return the configuration of the training's stream over base boxes.

    Raises:
        InputError: A novel class is among the boxes.
    """
    target, scenes = getattr(params.finetune, dataset), detection_set(dataset, "train")
    assert_no_novel(scenes.annotations, artifacts.DATA / dataset / "classes.json")
    pipeline = train_pipeline(params.detection, artifacts.PROPOSALS / f"{dataset}_train", masks=target.masks)
    names = load_classes(dataset).base_names
    boxes = boxes_config(scenes, names, pipeline, training=True, repeat_threshold=target.repeat_threshold)
    return stream_config(boxes, params.detection, target.schedule.batch_size, params.seed)


def _train(context: StageContext, model: BaseModel, name: str, history: HistoryHook) -> None:
    """Train the model in place on the data set's base boxes."""
    dataset, params = context.dataset, context.params
    train(
        model,
        build_dataset(training_set(params, dataset)),
        getattr(params.finetune, dataset).schedule,
        title=f"finetune {dataset} from {name}",
        seed=params.seed,
        scratch=context.scratch / name,
        hooks=[history],
    )
