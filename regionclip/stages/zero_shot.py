"""Stage zero_shot: CLIP and RegionCLIP without fine-tuning, on true and proposed boxes of one data set."""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process
from mmengine.model import BaseModel

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.annotations.truth import Truth, load_truth
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.detection import detect, true_box_top1
from regionclip.evaluation.protocols import PROTOCOLS, measure
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import zero_shot_settings
from regionclip.models.region_encoder import RegionEncoder
from regionclip.params import Params
from regionclip.stages.context import StageContext
from regionclip.text.text_bank import TextBank


def run(context: StageContext) -> dict[str, Any]:
    """Measure {gt, rpn} x {clip, regionclip} on one data set."""
    dataset, split = context.dataset, context.params.evaluation.split
    classes, bank = load_classes(dataset), TextBank.load(artifacts.class_bank(dataset))
    annotations = detection_set(dataset, split).annotations
    truth = load_truth(annotations, lvis=classes.federated) if is_main_process() else None
    metrics: dict[str, Any] = {"gt": {}, "rpn": {}}
    for name, folder in artifacts.CLIP_FOLDERS.items():
        clip = ClipFolder.open(folder)
        bank.require(width=clip.model_cfg["embed_dim"])
        with context.model_run(name) as run:
            for boxes, of_boxes in metrics.items():
                of_boxes[name] = _measure(context, clip, bank, boxes, f"{dataset} {boxes} {name}", truth)
                if run is not None:
                    run.log_metrics({boxes: of_boxes[name]})
    return metrics


def build_model(params: Params, dataset: str, clip: ClipFolder, boxes: str) -> BaseModel:
    """Build a CLIP's detector of all classes, on true boxes (``gt``) or on proposals (``rpn``)."""
    least = getattr(params.zero_shot.score_threshold[dataset], boxes)
    most = PROTOCOLS[params.data.sets[dataset].protocol].max_detections
    classes = len(load_classes(dataset).names)
    settings = zero_shot_settings(params.zero_shot, classes, most, least, use_objectness=boxes == "rpn")
    return build_detector(clip, settings)


def _measure(
    context: StageContext, clip: ClipFolder, bank: TextBank, boxes: str, title: str, truth: Truth | None
) -> dict[str, Any]:
    params, dataset, split = context.params, context.dataset, context.params.evaluation.split
    model = build_model(params, dataset, clip, boxes)
    proposals = artifacts.proposals(dataset, split) if boxes == "rpn" else "truth"
    found = detect(model, dataset, split, params.detection, proposals, bank, title)
    top1: dict[str, Any] = {}
    if boxes == "gt":
        encoder = RegionEncoder.from_clip(clip.model().visual)
        top1 = true_box_top1(encoder, model.data_preprocessor, dataset, split, params.detection, bank)
    if truth is None:
        return {}
    metrics = measure(params.data.sets[dataset].protocol, truth, found, load_classes(dataset))
    return metrics | {f"top1_{key}" if key in {"per_class", "protocol"} else key: top1[key] for key in top1}
