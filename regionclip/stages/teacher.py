"""Stage teacher: train the demo's CLIP on captioned single-object images, or import one of open_clip's ResNets."""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from mmengine.dist import is_main_process

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import build_clip, save_clip
from regionclip.checkpoints.containers import Container, read_container
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.official import clip_weights
from regionclip.data.datasets.pairs import PairsDataset
from regionclip.engine.history_hook import HistoryHook, leave_empty
from regionclip.engine.training import train
from regionclip.errors import InputError
from regionclip.models.clip_pretrainer import ClipPretrainer
from regionclip.params.stages import Teacher
from regionclip.stages.context import StageContext

HISTORY = artifacts.HISTORIES / "teacher.jsonl"


def run(context: StageContext) -> None:
    """Write artifacts/teacher."""
    teacher = context.params.teacher
    if teacher.source == "train":
        model_cfg, state = _train(context)
    else:
        model_cfg, state = _import(teacher) if teacher.source == "open_clip" else clip_weights(teacher.weights)
        leave_empty(HISTORY)
    if is_main_process():
        save_clip(artifacts.TEACHER, model_cfg, state, {"stage_digest": context.digest})


def _train(context: StageContext) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    teacher, seed = context.params.teacher, context.params.seed
    torch.manual_seed(seed)
    model_cfg = teacher.architecture.open_clip()
    clip = build_clip(model_cfg).to(memory_format=torch.channels_last)
    tokenizer = open_clip.SimpleTokenizer(context_length=model_cfg["text_cfg"]["context_length"])
    model = train(
        ClipPretrainer(clip),
        PairsDataset(artifacts.PAIRS / "train", tokenizer, seed),
        teacher.schedule,
        title="teacher",
        seed=seed,
        scratch=context.scratch,
        hooks=[HistoryHook(HISTORY, context.tracker)],
    )
    return model_cfg, model.clip.state_dict()


def _import(teacher: Teacher) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    model_cfg = open_clip.get_model_config(teacher.model)
    if model_cfg is None:
        mend = f"name one of {', '.join(name for name in open_clip.list_models() if name.startswith('RN'))}"
        problem = f"open_clip has no model '{teacher.model}'"
        raise InputError(problem, file="params.yaml", key="teacher.model", mend=mend)
    weights = read_container(teacher.weights)
    if not isinstance(weights, Container):
        mend = "give a CLIP's state dict"
        raise InputError("one tensor and no weights", file=teacher.weights, key="teacher.weights", mend=mend)
    clip = build_clip(model_cfg)
    load_strictly(clip, weights.tensors, teacher.weights)
    return model_cfg, clip.state_dict()
