"""One way to train: an MMEngine Runner that is seeded at every step, tracked, and resumes where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

import regionclip.models  # noqa: F401  (the runner's scope is MMDetection's, which needs `mmcv.ops`)
from regionclip import runtime
from regionclip.checkpoints.training_state import register_safe_loader
from regionclip.data.samplers import ResumableSampler  # noqa: F401  (registered)
from regionclip.engine import per_parameter_clip  # noqa: F401  (registered)
from regionclip.engine.loops import ResumableIterBasedTrainLoop  # noqa: F401  (registered)
from regionclip.engine.step_seed_hook import StepSeedHook
from regionclip.params import Schedule
from regionclip.tracking.hook import MLflowHook
from regionclip.tracking.progress_hook import ProgressHook


def train(
    model: BaseModel,
    dataset: torch.utils.data.Dataset,
    schedule: Schedule,
    *,
    title: str,
    seed: int,
    scratch: Path,
    history: Path,
    hooks: list[Hook] | None = None,
) -> BaseModel:
    """Train ``model`` for ``schedule.iterations`` steps and return it, on the CPU and in evaluation mode.

    A training that was killed goes on from its last resume point when called again with the same ``scratch`` folder.

    Args:
        model: Gives a dictionary of losses in mode ``loss``.
        dataset: Gives one record a position of an endless stream; see `ResumableSampler`.
        schedule: Optimiser, learning rate and length.
        title: Shown by the progress bar.
        seed: Seeds every step (together with its number), so that a resumed run repeats the uninterrupted one.
        scratch: Folder of the resume state; named by a digest of everything that decides the result.
        history: JSON Lines file that receives the losses.
        hooks: Further hooks.
    """
    register_safe_loader()
    scratch.mkdir(parents=True, exist_ok=True)
    loader = {
        "dataset": dataset,
        "batch_size": schedule.batch_size,
        "num_workers": min(runtime.workers(), 8),
        "sampler": {"type": "ResumableSampler", "seed": seed},
        "collate_fn": pseudo_collate,
    }
    if loader["num_workers"]:
        loader["persistent_workers"] = True
    runner = Runner(
        # Convolutions of torchvision's and CLIP's ResNets are faster with channels last, on CPU and GPU alike.
        model=model.to(runtime.device(), memory_format=torch.channels_last),
        work_dir=str(scratch),
        train_dataloader=loader,
        train_cfg={"type": "ResumableIterBasedTrainLoop", "max_iters": schedule.iterations},
        optim_wrapper=_optimizer(model, schedule),
        param_scheduler=_schedulers(schedule),
        default_hooks=_default_hooks(schedule.iterations),
        custom_hooks=[StepSeedHook(seed), MLflowHook(history=history), ProgressHook(title), *(hooks or [])],
        resume=True,
        randomness={"seed": seed},
        default_scope="mmdet",
        experiment_name=scratch.name,
        log_level="ERROR",
    )
    runner.train()
    return model.cpu().eval()


def _optimizer(model: BaseModel, schedule: Schedule) -> dict[str, Any] | OptimWrapper:
    """Optimiser over the trainable parameters only, so that weight decay does not touch frozen ones."""
    settings: dict[str, Any] = {"lr": schedule.learning_rate, "weight_decay": schedule.weight_decay, "fused": True}
    if schedule.optimizer == "SGD":
        settings["momentum"] = 0.9
    optimizer = getattr(torch.optim, schedule.optimizer)((p for p in model.parameters() if p.requires_grad), **settings)
    wrapper: dict[str, Any] = {"type": "OptimWrapper", "optimizer": optimizer}
    if runtime.precision() != "fp32":
        wrapper |= {"type": "AmpOptimWrapper", "dtype": {"fp16": "float16", "bf16": "bfloat16"}[runtime.precision()]}
    clip = schedule.clip_gradients
    if clip is not None:
        wrapper["clip_grad"] = {"max_norm": clip.norm}
        if clip.per == "parameter":
            wrapper["type"] = f"PerParameterClip{wrapper['type']}"
    from mmengine.registry import OPTIM_WRAPPERS

    return OPTIM_WRAPPERS.build(wrapper)


def _schedulers(schedule: Schedule) -> list[dict[str, Any]]:
    """Linear warm-up from a thousandth of the rate, then a tenth of it after each milestone."""
    steps: list[dict[str, Any]] = [
        {"type": "MultiStepLR", "milestones": schedule.milestones, "gamma": 0.1, "by_epoch": False}
    ]
    if schedule.warmup_iterations:
        warmup = {"type": "LinearLR", "start_factor": 0.001, "end": schedule.warmup_iterations, "by_epoch": False}
        steps.insert(0, warmup)
    return steps


def _default_hooks(iterations: int) -> dict[str, Any]:
    # Two resume points are kept: MMEngine removes the old one before it has written the new one.
    checkpoint = {
        "type": "CheckpointHook", "by_epoch": False, "interval": runtime.checkpoint_interval(iterations),
        "max_keep_ckpts": 2, "save_last": False,
    }  # fmt: skip
    return {"checkpoint": checkpoint, "logger": None}
