"""Stage rpn: train the region proposal network on base boxes only or import one, store proposals, measure recall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import is_main_process
from mmengine.model import BaseModel

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import publish
from regionclip.checkpoints.official import rpn_weights
from regionclip.data.annotations.leakage import assert_no_novel
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
from regionclip.data.layout import data_sets, detection_set, load_classes, splits
from regionclip.engine.history_hook import HistoryHook, leave_empty
from regionclip.engine.training import train
from regionclip.evaluation.recall import average_recall
from regionclip.files import sha256_file
from regionclip.labelling.proposals import store_proposals
from regionclip.models.assembly import build_rpn
from regionclip.params import Params

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

HISTORY = artifacts.HISTORIES / "rpn.jsonl"


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/rpn and artifacts/proposals/SET_SPLIT."""
    rpn = context.params.rpn
    model = build_model(context.params)
    classes = _import(model, rpn.weights) if rpn.weights else _train(context, model)
    metadata = {"rpn_classes": ",".join(classes)}
    if is_main_process():
        lineage = {"dataset": rpn.dataset, "classes": list(classes), "stage_digest": context.digest}
        publish(model.state_dict(), artifacts.RPN, lineage)
        metadata["rpn_sha256"] = sha256_file(artifacts.RPN)
    return {dataset: _propose(context, model, dataset, metadata) for dataset in data_sets()}


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
    assert_no_novel(scenes.annotations, artifacts.DATA / rpn.dataset / "classes.json")
    jitter = sizes.max_size if rpn.augmentation == "large_scale_jitter" else None
    pipeline = train_pipeline(sizes, None, large_scale_jitter=jitter)
    boxes = boxes_config(scenes, names, pipeline, training=True, repeat_threshold=rpn.repeat_threshold)
    return stream_config(boxes, sizes, rpn.schedule.batch_size, params.seed)


def _import(model: BaseModel, weights: str) -> tuple[str, ...]:
    """Fill the model from a checkpoint; return the classes it was trained on, as far as the file says."""
    state, classes = rpn_weights(weights)
    load_strictly(model, state, weights)
    leave_empty(HISTORY)
    return classes


def _train(context: StageContext, model: BaseModel) -> tuple[str, ...]:
    """Train the model in place; return the names of the base classes."""
    params, rpn = context.params, context.params.rpn
    boxes, hooks = build_dataset(training_set(params)), [HistoryHook(HISTORY, context.tracker)]
    train(model, boxes, rpn.schedule, title="rpn", seed=params.seed, scratch=context.scratch, hooks=hooks)
    return load_classes(rpn.dataset).base_names


def _propose(context: StageContext, model: BaseModel, dataset: str, metadata: dict[str, str]) -> dict[str, Any]:
    """Store the proposals of a data set's pictures; return their average recall on each held-out split."""
    classes, sizes, recall = load_classes(dataset), context.params.detection, {}
    groups = {group: classes.ids_of(names) for group, names in classes.groups.items()}
    for split in splits(dataset):
        scenes = detection_set(dataset, split)
        pictures = boxes_dataset(scenes, classes.names, test_pipeline(sizes, None), training=False)
        place = artifacts.PROPOSALS / f"{dataset}_{split}"
        proposals = store_proposals(model, pictures, place, metadata, sizes.test_batch)
        if split != "train" and is_main_process():
            truth = boxes_by_image(load_truth(scenes.annotations, lvis=dataset == "lvis"))
            recall[split] = average_recall(truth, proposals, groups)
    return recall
