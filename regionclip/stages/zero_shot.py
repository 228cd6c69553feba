"""Stage zero_shot: CLIP and RegionCLIP without fine-tuning, on true and proposed boxes of each data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.dist import is_main_process

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.annotations.truth import Truth, load_truth
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.detection import detect, true_box_top1
from regionclip.evaluation.protocols import PROTOCOLS, measure
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import zero_shot_settings
from regionclip.models.region_encoder import RegionEncoder
from regionclip.text.text_bank import TextBank

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext


def run(context: StageContext) -> dict[str, Any]:
    """Measure data sets x {gt, rpn} x {clip, regionclip}."""
    sets, split = context.params.data.sets, context.params.evaluation.split
    banks = {dataset: TextBank.load(artifacts.TEXT_BANKS / f"{dataset}.safetensors") for dataset in sets}
    files = {dataset: detection_set(dataset, split).annotations for dataset in banks if is_main_process()}
    truths = {dataset: load_truth(file, lvis=load_classes(dataset).federated) for dataset, file in files.items()}
    metrics: dict[str, Any] = {dataset: {"gt": {}, "rpn": {}} for dataset in banks}
    for name, folder in artifacts.CLIP_FOLDERS.items():
        clip = ClipFolder.open(folder)
        with context.model_run(name) as run:
            for dataset, bank in banks.items():
                bank.require(width=clip.model_cfg["embed_dim"])
                for boxes in ("gt", "rpn"):
                    title = f"{dataset} {boxes} {name}"
                    metrics[dataset][boxes][name] = _measure(
                        context, clip, bank, dataset, boxes, title, truths.get(dataset)
                    )
                    if run is not None:
                        run.log_metrics({dataset: {boxes: metrics[dataset][boxes][name]}})
    return metrics


def _measure(
    context: StageContext,
    clip: ClipFolder,
    bank: TextBank,
    dataset: str,
    boxes: str,
    title: str,
    truth: Truth | None,
) -> dict[str, Any]:
    params, split = context.params, context.params.evaluation.split
    least, protocol = getattr(params.zero_shot.score_threshold[dataset], boxes), params.data.sets[dataset].protocol
    most = PROTOCOLS[protocol].max_detections
    settings = zero_shot_settings(params.zero_shot, len(bank.names), most, least, use_objectness=boxes == "rpn")
    model = build_detector(clip, settings)
    proposals = artifacts.PROPOSALS / f"{dataset}_{split}" if boxes == "rpn" else "truth"
    found = detect(model, dataset, split, params.detection, proposals, bank, title)
    top1: dict[str, Any] = {}
    if boxes == "gt":
        encoder = RegionEncoder.from_clip(clip.model().visual)
        top1 = true_box_top1(encoder, model.data_preprocessor, dataset, split, params.detection, bank)
    if truth is None:
        return {}
    metrics = measure(protocol, truth, found, load_classes(dataset))
    return metrics | {f"top1_{key}" if key in {"per_class", "protocol"} else key: top1[key] for key in top1}
