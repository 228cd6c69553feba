"""Stage rpn: train the region proposal network on base boxes only, or import one."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.model import BaseModel

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.official import rpn_weights
from regionclip.data.annotations.annotation_files import assert_no_novel
from regionclip.data.annotations.truth import boxes_by_image, load_truth
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
from regionclip.evaluation.recall import average_recall
from regionclip.labelling.proposals import valid_regions
from regionclip.models.assembly import build_rpn
from regionclip.params import Params
from regionclip.stages.context import StageContext

HISTORY = artifacts.HISTORIES / "rpn.jsonl"


def run(context: StageContext) -> None:
    """Write artifacts/rpn."""
    rpn = context.params.rpn
    model = build_model(context.params)
    validation = None if rpn.weights else _validation(context)
    if rpn.weights:
        # Of the classes that it was trained on, what the file says.
        state, classes = rpn_weights(rpn.weights)
        load_strictly(model, state, rpn.weights)
        leave_empty(HISTORY)
    else:
        classes = _train(context, model, validation)
    if is_main_process():
        lineage = {"dataset": rpn.dataset, "classes": list(classes), "stage_digest": context.digest}
        publish_training(model, artifacts.RPN, lineage, validation)


def build_model(params: Params) -> BaseModel:
    """Build the RPN as its training starts from."""
    torch.manual_seed(params.seed)
    rpn = params.rpn
    return build_rpn(ClipFolder.open(artifacts.TEACHER), rpn, nms_iou=rpn.nms_iou, proposals=rpn.proposals)


def training_set(params: Params) -> dict[str, Any]:
    """Return the configuration of the training's stream over base boxes.

    Raises:
        InputError: A novel class is among the boxes.
    """
    rpn, sizes = params.rpn, params.detection
    scenes, names = detection_set(rpn.dataset, "train"), load_classes(rpn.dataset).base_names
    assert_no_novel(scenes.annotations, artifacts.SETS / rpn.dataset / "classes.json")
    jitter = sizes.max_size if rpn.augmentation == "large_scale_jitter" else None
    pipeline = train_pipeline(sizes, None, large_scale_jitter=jitter)
    out = taken_out(rpn.dataset, rpn.schedule.validation)
    boxes = boxes_config(scenes, names, pipeline, training=True, repeat_threshold=rpn.repeat_threshold, held_out=out)
    return stream_config(boxes, sizes, rpn.schedule.batch_size, params.seed)


def _train(context: StageContext, model: BaseModel, validation: ValidationHook | None) -> tuple[str, ...]:
    """Train the model in place; return the names of the base classes."""
    params, rpn = context.params, context.params.rpn
    boxes = build_dataset(training_set(params))
    hooks = [HistoryHook(HISTORY, context.tracker), *filter(None, [validation])]
    train(model, boxes, rpn.schedule, title="rpn", seed=params.seed, scratch=context.scratch, hooks=hooks)
    return load_classes(rpn.dataset).base_names


def _validation(context: StageContext) -> ValidationHook | None:
    """Return what measures the training.

    Recall of base objects chooses: an RPN that finds novel ones is wanted, but nothing may be chosen by them.
    """
    rpn, sizes = context.params.rpn, context.params.detection
    settings = rpn.schedule.validation
    if settings is None:
        return None
    key = "rpn.schedule.validation.images"
    split = write_development(rpn.dataset, settings.images, context.scratch / "development.json", key=key)
    pictures = boxes_dataset(split.scenes, split.base_names, test_pipeline(sizes, None), training=False)

    def measure(model: BaseModel) -> tuple[dict[str, float | None], list[DetDataSample]]:
        proposals, samples = {}, []
        for sample in predict(model, pictures, title="validation", batch_size=sizes.test_batch):
            proposals[sample.img_id], logits = valid_regions(sample)
            if len(samples) < PICTURES:
                sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
                sample.pred_instances.scores = sample.pred_instances.scores.sigmoid()
                samples.append(shown(sample))
        if not is_main_process():
            return {}, []
        truth = boxes_by_image(load_truth(split.scenes.annotations, lvis=load_classes(rpn.dataset).federated))
        found = average_recall(truth, proposals, {"base": split.ids})
        return {name: found[name] for name in ("ar100_base", "ar300_base")}, samples

    return ValidationHook(settings, "ar100_base", ("object",), measure, context.tracker)
