"""Stage finetune: transfer CLIP and RegionCLIP to one data set's base classes, on stored proposals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseModel

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.official import detector_weights
from regionclip.data.annotations.annotation_files import assert_no_novel
from regionclip.data.annotations.truth import load_truth
from regionclip.data.datasets import stream  # noqa: F401  (registered)
from regionclip.data.datasets.detection import (
    boxes_config,
    boxes_dataset,
    build_dataset,
    stream_config,
    test_pipeline,
    train_pipeline,
)
from regionclip.data.datasets.development import taken_out, write_development
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.history_hook import HistoryHook, leave_empty
from regionclip.engine.prediction import predict
from regionclip.engine.training import train
from regionclip.engine.validation_hook import PICTURES, ValidationHook, publish_training, shown
from regionclip.evaluation.detections import detections_from_samples
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.evaluation.protocols import measure as measure_by
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import detection_settings, finetune_settings, split_settings
from regionclip.params import Params
from regionclip.stages.context import StageContext
from regionclip.text.text_bank import TextBank
from regionclip.tracking.tracker import Tracker


def run(context: StageContext) -> None:
    """Write artifacts/finetune/DATASET/INITIALISATION.pth, trained alike or taken from the target's ``weights``."""
    dataset, params = context.dataset, context.params
    target = params.finetune.sets[dataset]
    bank = TextBank.load(artifacts.class_bank(dataset)).subset(load_classes(dataset).base_names)
    for name in params.finetune.initialisations:
        clip = ClipFolder.open(artifacts.CLIP_FOLDERS[name])
        model = build_model(params, dataset, clip, bank)
        history = artifacts.HISTORIES / f"finetune_{dataset}" / f"{name}.jsonl"
        with context.model_run(name) as tracker:
            validation = None if target.weights else _validation(context, context.scratch / name, tracker)
            if target.weights:
                load_strictly(model, detector_weights(target.weights, bank.embeddings), target.weights)
                leave_empty(history)
            else:
                _train(context, model, name, [HistoryHook(history, tracker), *filter(None, [validation])])
        meta = {"classes": list(bank.names), "clip_sha256": clip.weights_sha256, "bank_sha256": bank.sha256}
        if target.pseudo_boxes is not None:
            meta["pseudo_box_classes"] = list(load_classes(dataset).novel_names)
        if is_main_process():
            file = artifacts.FINETUNED / dataset / f"{name}.pth"
            publish_training(model, file, {**meta, "stage_digest": context.digest}, validation)


def build_model(params: Params, dataset: str, clip: ClipFolder, bank: TextBank, *, tested: bool = False) -> BaseModel:
    """Build the detector as its training starts from, with a bank of the base classes as vocabulary.

    ``tested``: with what a test does beside, for a config that has both; no training depends on it.
    """
    target = params.finetune.sets[dataset]
    bank.require(width=clip.model_cfg["embed_dim"])
    settings = finetune_settings(params.finetune, target, len(bank.names)) | (
        detection_settings(target) if tested else {}
    )
    split = target.pseudo_boxes is not None
    if split:
        classes = load_classes(dataset)
        novel = [label for label, name in enumerate(classes.names) if name in classes.novel_names]
        settings |= split_settings(target, novel)
    torch.manual_seed(params.seed)
    model = build_detector(clip, settings, params.finetune.frozen_stages, masks=target.masks, trained=True)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(bank.embeddings)
    if split or (tested and target.fusion is not None):
        model.roi_head.freeze()
    if split:
        every = TextBank.load(artifacts.class_bank(dataset)).embeddings
        model.roi_head.open_branch.bbox_head.fc_cls.set_vocabulary(every)
    return model


def training_set(params: Params, dataset: str, initialisation: str) -> dict[str, Any]:
    """Return the configuration of the training's stream over base boxes, and the pseudo boxes of an initialisation.

    Raises:
        InputError: A novel class is among the boxes.
    """
    target, scenes = params.finetune.sets[dataset], detection_set(dataset, "train")
    assert_no_novel(scenes.annotations, artifacts.SETS / dataset / "classes.json")
    pipeline = train_pipeline(params.detection, artifacts.proposals(dataset, "train"), masks=target.masks)
    classes, found = load_classes(dataset), target.pseudo_boxes and artifacts.pseudo_boxes(dataset, initialisation)
    boxes = boxes_config(
        scenes,
        classes.names if found else classes.base_names,
        pipeline,
        training=True,
        repeat_threshold=target.repeat_threshold,
        held_out=taken_out(dataset, target.schedule.validation),
        pseudo_boxes=found,
    )
    return stream_config(boxes, params.detection, target.schedule.batch_size, params.seed)


def _train(context: StageContext, model: BaseModel, name: str, hooks: list[Hook]) -> None:
    """Train the model in place on the data set's base boxes."""
    dataset, params = context.dataset, context.params
    boxes, schedule = build_dataset(training_set(params, dataset, name)), params.finetune.sets[dataset].schedule
    title, scratch = f"finetune {dataset} from {name}", context.scratch / name
    train(model, boxes, schedule, title=title, seed=params.seed, scratch=scratch, hooks=hooks)


def _validation(context: StageContext, scratch: Path, tracker: Tracker | None) -> ValidationHook | None:
    """Return what measures a training."""
    dataset, sizes = context.dataset, context.params.detection
    protocol = context.params.data.sets[dataset].protocol
    settings = context.params.finetune.sets[dataset].schedule.validation
    if settings is None:
        return None
    key = f"finetune.sets.{dataset}.schedule.validation.images"
    split = write_development(dataset, settings.images, scratch / "development.json", key=key)
    pipeline = test_pipeline(sizes, artifacts.proposals(dataset, split.split))
    pictures = boxes_dataset(split.scenes, split.base_names, pipeline, training=False)

    def measure(model: BaseModel) -> tuple[dict[str, float | None], list[DetDataSample]]:
        samples: list[DetDataSample] = []
        predicted = predict(model, pictures, title="validation", batch_size=sizes.test_batch)
        found = detections_from_samples(_boxes(predicted, samples), split.ids)
        if not is_main_process():
            return {}, []
        # The file holds base classes alone, and so does the vocabulary that is trained with.
        truth = load_truth(split.scenes.annotations, lvis=load_classes(dataset).federated)
        numbers = measure_by(protocol, truth, found, split)
        return {f"{name}_base": numbers[name] for name in ("ap", "ap50")}, samples

    return ValidationHook(settings, PROTOCOLS[protocol].chooses, split.base_names, measure, tracker)


def _boxes(predicted: Iterator[DetDataSample], kept: list[DetDataSample]) -> Iterator[DetDataSample]:
    """Pass predictions on without their masks, of which no number is; keep the first for a sheet."""
    for sample in predicted:
        sample.pred_instances.pop("masks", None)
        if len(kept) < PICTURES:
            kept.append(shown(sample))
        yield sample
