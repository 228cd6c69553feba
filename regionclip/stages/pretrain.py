"""Stage pretrain: the student learns regions from pseudo labels and pictures from captions, or is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process, master_only

from regionclip.checkpoints.clip_folder import ClipFolder, save_clip
from regionclip.checkpoints.importing import clip_weights
from regionclip.data.datasets.image_text import ImageTextRegionDataset
from regionclip.data.layout import captioned_scenes
from regionclip.engine.training import train
from regionclip.files import sha256_tree
from regionclip.models.assembly import build_pretrainer
from regionclip.params import Pretrain
from regionclip.regions.store import RegionStore
from regionclip.stages.imported import leave_empty
from regionclip.stages.rejected import set_aside
from regionclip.stages.runner import StageContext
from regionclip.text.text_bank import TextBank

TEACHER, STORE = Path("artifacts/teacher"), Path("artifacts/pseudo_labels")
BANK, OUT, HISTORY = (
    Path("artifacts/text_bank/concepts.safetensors"),
    Path("artifacts/pretrain"),
    Path("artifacts/history/pretrain.jsonl"),
)


def run(context: StageContext) -> None:
    """Write artifacts/pretrain: RegionCLIP in the form of the teacher, readable by open_clip."""
    if context.params.pretrain.weights:
        _import(context, context.params.pretrain.weights)
    else:
        _train(context)


@master_only
def _import(context: StageContext, weights: str) -> None:
    model_cfg, state = clip_weights(weights)
    save_clip(OUT, model_cfg, state, {"stage_digest": context.digest, "source_sha256": sha256_tree(weights)})
    leave_empty(HISTORY)


def _train(context: StageContext) -> None:
    params, seed = context.params.pretrain, context.params.seed
    clip, bank, store = ClipFolder.open(TEACHER), TextBank.load(BANK), RegionStore.open(STORE)
    bank.require(width=clip.model_cfg["embed_dim"], weights_sha256=clip.weights_sha256)
    store.require(bank_sha256=bank.sha256, teacher_sha256=clip.weights_sha256)
    model = build_pretrainer(clip, _losses(params), params.threshold, params.frozen_stages)
    model.set_concepts(bank.embeddings)
    captions, pictures = captioned_scenes()
    with set_aside(context, "pretrain") as rejects:
        dataset = ImageTextRegionDataset(
            captions=captions,
            images=pictures,
            store=STORE,
            tokenizer=clip.tokenizer(),
            regions_per_image=params.regions_per_image,
            scales=params.scales,
            max_size=params.max_size,
            interpolation=params.interpolation,
            flip_prob=0.5,
            seed=seed,
            rejects=rejects,
        )
    trained = train(
        model, dataset, params.schedule, title="pretrain", seed=seed, scratch=context.scratch, history=HISTORY
    )
    if not is_main_process():
        return
    state = clip.state_dict()
    state |= {f"visual.{key}": value for key, value in trained.student.to_visual_state_dict().items()}
    lineage = {"stage_digest": context.digest, "teacher_sha256": clip.weights_sha256, "bank_sha256": bank.sha256}
    save_clip(OUT, clip.model_cfg, state, lineage)


def _losses(params: Pretrain) -> dict[str, dict[str, Any] | None]:
    kinds = {
        "contrastive_loss": ("RegionConceptContrastiveLoss", params.losses.contrastive),
        "distillation_loss": ("ConceptDistillationLoss", params.losses.distillation),
        "image_text_loss": ("ImageTextContrastiveLoss", params.losses.image_text),
    }
    return {
        key: {"type": kind, "temperature": params.temperature, "loss_weight": weight} if weight else None
        for key, (kind, weight) in kinds.items()
    }
