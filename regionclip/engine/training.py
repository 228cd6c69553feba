"""One way to train: an MMEngine Runner that is seeded at every step, tracked, and resumes where it was."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models.task_modules.samplers import BaseSampler, SamplingResult
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS, LOOPS, OPTIM_WRAPPERS
from mmengine.runner import IterBasedTrainLoop, Runner
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from regionclip import runtime
from regionclip.checkpoints.mmengine_files import register_safe_loader
from regionclip.data.datasets.stream import ResumableSampler
from regionclip.engine.joint_batch import share_of_batch, unwrapped, wrapping
from regionclip.engine.resume_points import ResumePointHook, SoundNumbersHook, newest_resume_point
from regionclip.engine.stop_request import StopRequest, leave_process_group
from regionclip.files import full_disk_named
from regionclip.params.stages import Schedule


def train(
    model: BaseModel,
    dataset: torch.utils.data.Dataset,
    schedule: Schedule,
    *,
    title: str,
    seed: int,
    scratch: Path,
    hooks: Sequence[Hook],
) -> BaseModel:
    """Train ``model`` for ``schedule.iterations`` steps and return it, on the CPU and in evaluation mode.

    A training that was killed goes on from its last resume point when called again with the same ``scratch`` folder.
    In a process group (see `process_group`) all processes call it alike and train together: the schedule's batch is
    the batch of all, and losses and weights are those of one process up to rounding.

    Args:
        model: Gives a dictionary of losses in mode ``loss``.
        dataset: Gives one record a position of an endless stream; see `ResumableSampler`.
        schedule: Optimiser, learning rate, length and joint batch.
        title, hooks: Of the progress bar, and what looks on, such as `HistoryHook`.
        seed: Seeds every step (together with its number), so that a resumed run repeats the uninterrupted one.
        scratch: Folder of the resume state; named by a digest of everything that decides the result.

    Raises:
        InputError: The batch cannot be dealt to the processes, the disk of ``scratch`` is full, or a loss, gradient or
            weight is not finite; see `SoundNumbersHook`.
        Interrupted: SIGTERM or SIGINT came; the resume point is that of the step in which it came.
        KeyboardInterrupt: A second one came, or the first ended the loader's helpers.
    """
    register_safe_loader()
    scratch.mkdir(parents=True, exist_ok=True)
    sound = SoundNumbersHook()
    with StopRequest() as stop, full_disk_named(scratch):
        settings = recipe(dataset, schedule, seed)
        settings["custom_hooks"] += [sound, *hooks, ProgressHook(title)]
        share, leave = share_of_batch(schedule.batch_size), {"type": leave_process_group}
        settings["train_dataloader"] |= {"batch_size": share, "worker_init_fn": leave}
        resume_points = ResumePointHook(runtime.checkpoint_interval(schedule.iterations), stop, sound)
        point = newest_resume_point(scratch)
        resumed = {"load_from": None if point is None else str(point), "resume": point is not None}
        runner = Runner(
            # Convolutions of torchvision's and CLIP's ResNets are faster with channels last, on CPU and GPU alike.
            model=model.to(runtime.device(), memory_format=torch.channels_last),
            work_dir=str(scratch),
            # MMEngine's own would wait for the device at each step, to read losses that nobody reads from it.
            default_hooks={"checkpoint": resume_points, "logger": None, "runtime_info": None},
            experiment_name=scratch.name,
            log_level="ERROR",
            **settings | resumed | wrapping(model),
        )
        try:
            runner.train()
        except RuntimeError:
            # The signal may have ended the loader's helpers too; there is the last regular resume point.
            if stop.made:
                raise KeyboardInterrupt from None
            raise
        finally:
            _close_log(runner)
    return model.cpu().eval()


def _close_log(runner: Runner) -> None:
    """Close MMEngine's file of the log: models that are built later in this process would be told of in it."""
    for handler in [one for one in runner.logger.handlers if isinstance(one, logging.FileHandler)]:
        runner.logger.removeHandler(handler)
        handler.close()


def recipe(dataset: torch.utils.data.Dataset | dict[str, Any], schedule: Schedule, seed: int) -> dict[str, Any]:
    """Return what decides a training, by the keys of an MMEngine config: pictures, optimiser, schedule and seed.

    All is plain values where the data set is given by its configuration.
    """
    workers = min(runtime.loader_workers(), 8)
    return {
        "default_scope": "mmdet",
        "randomness": {"seed": seed},
        "train_dataloader": {
            "dataset": dataset,
            "batch_size": schedule.batch_size,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "sampler": {"type": "ResumableSampler", "seed": seed},
        },
        "train_cfg": {"type": "ResumableIterBasedTrainLoop", "max_iters": schedule.iterations},
        "optim_wrapper": _optimizer(schedule),
        "param_scheduler": _schedulers(schedule),
        "custom_hooks": [{"type": "StepSeedHook", "seed": seed}, {"type": "JointLossHook"}],
    }


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed torch's and numpy's global generators before each iteration, and torch's before each picture is sampled.

    MMDetection samples anchors and regions from the global generators, whose state a checkpoint does not hold. What a
    picture gets depends on its position in the stream alone, so that any number of processes draws what one would.
    Seeds are derived from the run's and from the number of the iteration or picture.
    """

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._samplers: list[PictureSampler] = []

    def before_train(self, runner: Runner) -> None:
        """Seed the samplers of the model's heads."""
        for module in unwrapped(runner).modules():
            for name in ("sampler", "bbox_sampler"):
                if isinstance(getattr(module, name, None), BaseSampler):
                    self._samplers.append(PictureSampler(getattr(module, name), self.seed, runner.world_size))
                    setattr(module, name, self._samplers[-1])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the generators for iteration ``runner.iter``, alike in all processes."""
        state = np.random.SeedSequence([self.seed, runner.iter]).generate_state(2)
        np.random.seed(int(state[0]))  # noqa: NPY002  (MMDetection reads this generator)
        torch.manual_seed(int(state[1]))
        for sampler in self._samplers:
            joint_batch = runner.train_dataloader.batch_size * runner.world_size
            sampler.position = runner.iter * joint_batch + runner.rank


class PictureSampler:
    """A sampler of MMDetection that seeds torch's generator by the position of the picture it samples for.

    Heads call it once for each picture of a batch, in order. ``position`` in the endless stream is set at each step;
    two pictures of one process are ``stride`` apart.
    """

    def __init__(self, sampler: BaseSampler, seed: int, stride: int) -> None:
        self.sampler, self.seed, self.stride, self.position = sampler, seed, stride, 0

    def sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        """Sample for the next picture; arguments and result as in the sampler."""
        # The third number parts these seeds from those of iterations.
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.position, 1]).generate_state(1)[0]))
        self.position += self.stride
        return self.sampler.sample(*args, **kwargs)


class ProgressHook(Hook):
    """Show iterations done, time left and a loss behind a ``title``; a validation shows its own bar below.

    The loss is of every tenth second, because to read it is to wait for the device.
    """

    _SECONDS = 10

    def __init__(self, title: str) -> None:
        self.title = title

    def before_train(self, runner: Runner) -> None:
        """Open the bar."""
        columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[loss]}"))
        self._progress = Progress(*Progress.get_default_columns(), *columns, disable=runner.rank != 0)
        self._task = self._progress.add_task(self.title, total=runner.max_iters, completed=runner.iter, loss="")
        self._progress.start()
        self._read = -float("inf")

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move the bar on."""
        if self._progress.disable:
            return
        shown = {}
        if outputs and "loss" in outputs and time.monotonic() - self._read >= self._SECONDS:
            self._read, shown = time.monotonic(), {"loss": f"loss {outputs['loss'].item():.3f}"}
        self._progress.update(self._task, completed=runner.iter + 1, **shown)

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self._progress.stop()


@LOOPS.register_module()
class ResumableIterBasedTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop, for a loader with `ResumableSampler`.

    On resume MMEngine draws and discards as many batches as were trained on, decoding them all. Here the sampler
    starts behind them, and what is drawn and discarded is empty.
    """

    def run(self) -> torch.nn.Module:
        """Train from the current iteration to the last one."""
        sampler = self.dataloader.sampler
        if not isinstance(sampler, ResumableSampler):
            raise TypeError(f"ResumableIterBasedTrainLoop needs a ResumableSampler, got {type(sampler).__name__}")
        if self._iter > 0:
            sampler.start = self._iter * self.dataloader.batch_size * get_world_size()
            skipped = itertools.repeat(None, self._iter)
            self.dataloader_iterator = itertools.chain(skipped, iter(self.dataloader))
        return super().run()


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """``OptimWrapper`` under which models compute in bfloat16, on CPU and GPU.

    MMEngine's ``AmpOptimWrapper`` works on a GPU only, and scales the losses as float16's range needs it: to read
    whether a step overflowed, the host waits for the device at each. bfloat16 has the range of float32.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Let what runs inside compute in bfloat16."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


class _PerParameterClip:
    """Apply ``clip_grad`` to one parameter at a time.

    MMEngine clips the norm over all parameters. Detectron2's ``solver/build.py``, and so the official RegionCLIP,
    clips each tensor apart from the others.
    """

    def _clip_grad(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    torch.nn.utils.clip_grad_norm_(parameter, **self.clip_grad_kwargs)


@OPTIM_WRAPPERS.register_module()
class PerParameterClipOptimWrapper(_PerParameterClip, OptimWrapper):
    """``OptimWrapper`` that applies ``clip_grad`` to one parameter at a time."""


@OPTIM_WRAPPERS.register_module()
class PerParameterClipBFloat16OptimWrapper(_PerParameterClip, BFloat16OptimWrapper):
    """``BFloat16OptimWrapper`` that applies ``clip_grad`` to one parameter at a time."""


@OPTIM_WRAPPERS.register_module()
class PerParameterClipAmpOptimWrapper(_PerParameterClip, AmpOptimWrapper):
    """``AmpOptimWrapper`` that applies ``clip_grad`` to one parameter at a time."""


def _optimizer(schedule: Schedule) -> dict[str, Any]:
    optimizer: dict[str, Any] = {"type": schedule.optimizer, "lr": schedule.learning_rate}
    optimizer |= {"weight_decay": schedule.weight_decay, "fused": True}
    if schedule.optimizer == "SGD":
        optimizer["momentum"] = 0.9
    wrapper: dict[str, Any] = {"type": "OptimWrapper", "optimizer": optimizer}
    if (dtype := runtime.precision()) == "bfloat16":
        wrapper["type"] = "BFloat16OptimWrapper"
    elif dtype == "float16":
        wrapper |= {"type": "AmpOptimWrapper", "dtype": dtype}
    if clip := schedule.clip_gradients:
        wrapper["clip_grad"] = {"max_norm": clip.norm}
        if clip.per == "parameter":
            wrapper["type"] = f"PerParameterClip{wrapper['type']}"
    return wrapper


def _schedulers(schedule: Schedule) -> list[dict[str, Any]]:
    """Linear warm-up, then a tenth of it after each milestone."""
    warmup: dict[str, Any] = {"type": "LinearLR", "start_factor": schedule.warmup_factor, "by_epoch": False}
    warmup["end"] = schedule.warmup_iterations
    steps = {"type": "MultiStepLR", "milestones": schedule.milestones, "gamma": 0.1, "by_epoch": False}
    return [warmup, steps] if schedule.warmup_iterations else [steps]
