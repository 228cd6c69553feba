"""Stage pretrain: the student learns regions from pseudo labels and pictures from captions, or is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.dist import is_main_process, master_only

from regionclip import artifacts
from regionclip.artifacts import CONCEPT_BANK, HISTORIES, PRETRAINED, PSEUDO_LABELS, TEACHER
from regionclip.checkpoints.clip_folder import ClipFolder, save_clip
from regionclip.checkpoints.official import clip_weights
from regionclip.data.datasets.image_text import ImageTextRegionDataset
from regionclip.data.layout import captioned_scenes
from regionclip.data.rejects import Rejects
from regionclip.engine.history_hook import HistoryHook, leave_empty
from regionclip.engine.training import train
from regionclip.files import sha256_tree
from regionclip.models.assembly import build_pretrainer
from regionclip.params import Params
from regionclip.regions.store import RegionStore
from regionclip.text.text_bank import TextBank

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

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
        "tokenizer": f"local-dir:{TEACHER}",
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
        dataset = ImageTextRegionDataset(**training_set(params) | {"tokenizer": clip.tokenizer(), "rejects": rejects})
    hooks, schedule = [HistoryHook(HISTORY, context.tracker)], params.pretrain.schedule
    trained = train(model, dataset, schedule, title="pretrain", seed=seed, scratch=context.scratch, hooks=hooks)
    if not is_main_process():
        return
    state = clip.state_dict()
    state |= {f"visual.{key}": value for key, value in trained.student.to_visual_state_dict().items()}
    lineage = {"stage_digest": context.digest, "teacher_sha256": clip.weights_sha256, "bank_sha256": bank.sha256}
    save_clip(PRETRAINED, clip.model_cfg, state, lineage)
