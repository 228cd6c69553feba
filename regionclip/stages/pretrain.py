"""Stage pretrain: the student learns regions from pseudo labels and pictures from captions, or is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process, master_only
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from regionclip import artifacts
from regionclip.artifacts import BEST, CONCEPT_BANK, HISTORIES, PRETRAINED, PSEUDO_LABELS, TEACHER
from regionclip.checkpoints.clip_folder import ClipFolder, save_clip
from regionclip.checkpoints.official import clip_weights
from regionclip.data.datasets.detection import boxes_dataset, test_pipeline
from regionclip.data.datasets.development import write_development
from regionclip.data.datasets.image_text import ImageTextRegionDataset
from regionclip.data.layout import captioned_scenes
from regionclip.data.rejects import Rejects
from regionclip.engine.history_hook import HistoryHook, leave_empty
from regionclip.engine.prediction import NamedRegions, name_true_boxes
from regionclip.engine.training import train
from regionclip.engine.validation_hook import PICTURES, ValidationHook, shown
from regionclip.evaluation.region_classification import classify_regions
from regionclip.files import sha256_tree
from regionclip.models.assembly import build_pretrainer, clip_preprocessor
from regionclip.params import Params
from regionclip.regions.store import RegionStore
from regionclip.stages.context import StageContext
from regionclip.text.text_bank import TextBank

HISTORY = HISTORIES / "pretrain.jsonl"


def run(context: StageContext) -> None:
    """Write artifacts/pretrain: RegionCLIP in the form of the teacher, readable by open_clip."""
    if context.params.pretrain.weights:
        _import(context, context.params.pretrain.weights)
    else:
        _train(context)


def training_set(params: Params) -> dict[str, Any]:
    """Return the arguments of the training's data set, captioned pictures and their labelled regions."""
    captions, pictures = captioned_scenes()
    pretrain = params.pretrain
    return {
        "captions": str(captions),
        "images": None if pictures is None else str(pictures),
        "store": str(PSEUDO_LABELS),
        "regions_per_image": pretrain.regions_per_image,
        "scales": pretrain.scales,
        "max_size": pretrain.max_size,
        "interpolation": pretrain.interpolation,
        "flip_prob": 0.5,
        "seed": params.seed,
    }


@master_only
def _import(context: StageContext, weights: str) -> None:
    model_cfg, state = clip_weights(weights)
    save_clip(PRETRAINED, model_cfg, state, {"stage_digest": context.digest, "source_sha256": sha256_tree(weights)})
    leave_empty(HISTORY)


def _train(context: StageContext) -> None:
    params, seed = context.params, context.params.seed
    clip = ClipFolder.open(TEACHER)
    bank, store = TextBank.load(CONCEPT_BANK), RegionStore.open(PSEUDO_LABELS)
    bank.require(width=clip.model_cfg["embed_dim"], weights_sha256=clip.weights_sha256)
    store.require(bank_sha256=bank.sha256, teacher_sha256=clip.weights_sha256)
    model = build_pretrainer(clip, params.pretrain)
    model.set_concepts(bank.embeddings)
    with Rejects(artifacts.rejected("pretrain"), params.quarantine.max_fraction) as rejects:
        dataset = ImageTextRegionDataset(**training_set(params), rejects=rejects)
    validation, schedule = _validation(context, clip), params.pretrain.schedule
    hooks = [HistoryHook(HISTORY, context.tracker), *filter(None, [validation])]
    trained = train(model, dataset, schedule, title="pretrain", seed=seed, scratch=context.scratch, hooks=hooks)
    if not is_main_process():
        return
    lineage = {"stage_digest": context.digest, "teacher_sha256": clip.weights_sha256, "bank_sha256": bank.sha256}
    alpha = params.pretrain.wise_ft_alpha
    _save(PRETRAINED, clip, trained, alpha, lineage if validation is None else lineage | validation.end())
    if validation:
        weights, facts = validation.best()
        trained.load_state_dict(weights)
        _save(PRETRAINED / BEST, clip, trained, alpha, lineage | facts)


def _save(folder: Path, clip: ClipFolder, trained: BaseModel, alpha: float, lineage: dict[str, str]) -> None:
    """Write the student, ``alpha`` of it and the rest the CLIP's that it came from, with the teacher's text tower."""
    state = clip.state_dict()
    student = {f"visual.{key}": value for key, value in trained.student.to_visual_state_dict().items()}
    if alpha < 1:
        floating = {key: value for key, value in student.items() if value.is_floating_point()}
        student |= {key: torch.lerp(state[key].float(), value.float(), alpha) for key, value in floating.items()}
    save_clip(folder, clip.model_cfg, state | student, lineage)


def _validation(context: StageContext, clip: ClipFolder) -> ValidationHook | None:
    """Return what measures the training: how many true boxes of base classes the student names right, zero-shot.

    The corpus has no boxes, and its loss falls as the student agrees with the teacher, right or wrong. Base classes
    choose alone, as for the detectors; their boxes train nothing here, so no picture is taken out of the training.
    """
    settings, sizes = context.params.pretrain.schedule.validation, context.params.detection
    if settings is None:
        return None
    key = "pretrain.schedule.validation"
    dataset = context.params.rpn.dataset
    split = write_development(dataset, settings.images, context.scratch / "development.json", key=key)
    pictures = boxes_dataset(split.scenes, split.base_names, test_pipeline(sizes, "truth"), training=False)
    bank = TextBank.load(artifacts.class_bank(dataset)).subset(split.base_names)
    bank.require(width=clip.model_cfg["embed_dim"])

    def measure(model: BaseModel) -> tuple[dict[str, float | None], list[DetDataSample]]:
        preprocessor = clip_preprocessor(model.student)
        batch, text = sizes.test_batch, bank.embeddings
        named = name_true_boxes(model.student, preprocessor, pictures, text, title="validation", batch_size=batch)
        found = list(named)
        if not is_main_process():
            return {}, []
        scores, labels = (torch.cat([getattr(item, key) for item in found]).numpy() for key in ("logits", "labels"))
        groups = {"base": split.base_names}
        numbers = classify_regions(scores, labels, split.base_names, groups, "roi_align", bank.templates)
        samples = [_named(item, context.params.pretrain.temperature) for item in found[:PICTURES]]
        return {name: numbers[name] for name in ("top1_base", "class_mean_top1_base")}, samples

    return ValidationHook(settings, "top1_base", split.base_names, measure, context.tracker)


def _named(item: NamedRegions, temperature: float) -> DetDataSample:
    """Return the true boxes of a picture with the names that the student gives them, for a sheet."""
    best = (item.logits / temperature).softmax(dim=1).max(dim=1)
    boxes = item.sample.gt_instances.bboxes / torch.tensor([*item.sample.scale_factor] * 2)
    item.sample.pred_instances = InstanceData(bboxes=boxes, labels=best.indices, scores=best.values)
    return shown(item.sample)
