"""Resume points of a training: of sound numbers, written whole or not at all, and the newest whole one found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor

from regionclip.checkpoints.containers import non_finite
from regionclip.engine.joint_batch import unwrapped
from regionclip.engine.stop_request import StopRequest
from regionclip.errors import InputError, Interrupted, logger
from regionclip.files import atomic_path, sweep

_log = logger(__name__)
_PATTERN = "iter_*.pth"
_LOOK = 50  # iterations between two looks, which wait for the device
_GRADIENTS = "gradients"
_LEAST_SCALE = 1e-9  # of the gradients in fp16, after some 45 steps in a row that were too large


@HOOKS.register_module()
class SoundNumbersHook(Hook):
    """Note on the device, at each iteration, whether losses and gradients are finite; look at it now and then.

    A look also sees the weights and the optimizer's state. It comes every 50 iterations, after the last one, and
    before each resume point (`ResumePointHook` calls it). Losses are the means over the processes, gradients and
    weights are alike in all, so all processes stop at the same iteration. Where a scaler skips steps whose gradients
    are too large, as fp16 does, gradients are not looked at but for its scale.

    Raises:
        InputError: A number is not finite; names what, since which iteration, and the last resume point.
    """

    priority = "HIGH"  # behind the mean over the processes

    def before_train(self, runner: Runner) -> None:
        """Watch the gradients of each step."""
        # Iterations at which something was not finite for the first time, 0 for none; by the names of one iteration.
        self._since: dict[tuple[str, ...], Tensor] = {}
        self._gradients: Tensor | None = None
        if not hasattr(runner.optim_wrapper, "loss_scaler"):
            runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the iteration; look where it is time to."""
        values = {name: torch.as_tensor(value) for name, value in (outputs or {}).items() if "loss" in name}
        if self._gradients is not None:
            values[_GRADIENTS] = self._gradients
        step = runner.iter + 1
        if values:
            device = next(iter(values.values())).device
            sound = torch.stack([value.detach().reshape(()).to(device).isfinite() for value in values.values()])
            since = self._since.setdefault(tuple(values), torch.zeros(len(values), dtype=torch.long, device=device))
            since.copy_(torch.where(sound | (since > 0), since, step))
        if step % _LOOK == 0 or step == runner.max_iters:
            self.look(runner)

    def look(self, runner: Runner) -> None:
        """Wait for the device and see what was noted; in all processes at the same iteration."""
        noted = [
            # The sum of the losses says less than the one that made it so, and the gradients follow it.
            (since, (name == _GRADIENTS, name == "loss"), name)
            for names, all_since in self._since.items()
            for name, since in zip(names, all_since.tolist(), strict=True)
            if since
        ]
        if noted:
            since, _, name = min(noted)
            raise _error(runner, "the gradients are" if name == _GRADIENTS else f"the loss '{name}' is", since)
        scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
        if scaler is not None and scaler.is_enabled() and scaler.get_scale() < _LEAST_SCALE:
            raise _error(runner, "the gradients are, at any scale,", runner.iter + 1)
        if bad := non_finite(_kept(runner)):
            raise _error(runner, f"the weight '{bad[0]}' is", runner.iter + 1)

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        gradients = [gradient for gradient in gradients if gradient is not None]
        self._gradients = torch.nn.utils.get_total_norm(gradients) if gradients else None


@register_backend("atomic")
class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, but written beside and renamed; MMEngine writes checkpoints in place."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``."""
        with atomic_path(filepath) as beside:
            beside.write_bytes(obj)


@HOOKS.register_module()
class ResumePointHook(CheckpointHook):
    """Save a resume point every ``interval`` iterations, and after the running one when a stop is requested.

    Two are kept, because MMEngine removes the old one before it has written the new one. Any process's request to stop
    counts for all. ``sound`` looks at the numbers before they are saved.

    Raises:
        InputError: A number is not finite; the resume points before stay.
        Interrupted: A stop was requested, and the resume point is written.
    """

    def __init__(self, interval: int, stop: StopRequest, sound: SoundNumbersHook) -> None:
        super().__init__(
            interval, by_epoch=False, max_keep_ckpts=2, save_last=False, backend_args={"backend": "atomic"}
        )
        self.stop, self.sound = stop, sound

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save where it is time to, and stop where that is wanted."""
        stops = torch.tensor(float(self.stop.made))
        all_reduce(stops, "max")
        stop = bool(stops)
        if stop or self.every_n_train_iters(runner, self.interval):
            self.sound.look(runner)
            self._save_checkpoint(runner)
        if stop:
            # The first process writes; the launcher would end it as soon as another has ended.
            barrier()
            raise Interrupted(f"stopped after iteration {runner.iter + 1}")


def newest_resume_point(folder: Path) -> Path | None:
    """Return the newest whole resume point of a training, the same in all processes; say which ones are damaged.

    Raises:
        InputError: One holds what no training of ours writes, and could run code.
    """
    found: list[Path | None] = [None]
    if is_main_process():
        sweep(folder)
        points = sorted(folder.glob(_PATTERN), key=_step, reverse=True)
        found[0] = next((point for point in points if _is_whole(point)), None)
    broadcast_object_list(found)
    return found[0]


def _step(point: Path) -> int:
    return int(point.stem.removeprefix("iter_"))


def _is_whole(point: Path) -> bool:
    try:
        content = CheckpointLoader.load_checkpoint(str(point), map_location="cpu", logger=_log)
    except InputError as error:
        if error.key:
            raise
        problem = str(error)
    else:
        weights = content.get("state_dict") if isinstance(content, dict) else None
        if weights and not non_finite(weights):
            return True
        problem = f"{point} holds no weights, or such as are not finite."
    _log.warning("%s The resume point before it is taken, or the training starts anew.", problem)
    return False


def _kept(runner: Runner) -> dict[str, Tensor]:
    """Return what a resume point would hold: weights, statistics, and the optimizer's averages."""
    model = unwrapped(runner)
    kept, state = dict(model.state_dict()), runner.optim_wrapper.optimizer.state
    for name, weight in model.named_parameters():
        averages = state.get(weight, {}).items()
        kept |= {f"{name} ({key})": value for key, value in averages if isinstance(value, Tensor) and key != "step"}
    return kept


def _error(runner: Runner, what: str, step: int) -> InputError:
    last = max(map(_step, Path(runner.work_dir).glob(_PATTERN)), default=None)
    known = "there is no resume point yet" if last is None else f"the last sound resume point is that of step {last}"
    return InputError(
        f"{what} not finite since step {step}; {known}",
        file=runner.work_dir,
        mend="lower the learning rate, clip the gradients (schedule), or look at the data of that step; run it again",
    )
