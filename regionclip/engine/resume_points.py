"""Resume points of a training: of sound numbers, written whole or not at all, and the newest whole one found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader, Runner

from regionclip.checkpoints.containers import non_finite
from regionclip.engine.sound_numbers import SoundNumbersHook
from regionclip.engine.stop_request import StopRequest
from regionclip.errors import InputError, Interrupted, logger
from regionclip.files import atomic_path, sweep

_log = logger(__name__)
_PATTERN = "iter_*.pth"


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

    Two are kept, because MMEngine removes the old one before it has written the new one.

    Args:
        interval: Iterations between resume points.
        stop: The request; any process's counts for all.
        sound: Looks at the numbers before they are saved.

    Raises:
        InputError: A number is not finite; the resume points before stay.
        Interrupted: A stop was requested, and the resume point is written.
    """

    def __init__(self, interval: int, stop: StopRequest, sound: SoundNumbersHook) -> None:
        super().__init__(
            interval, by_epoch=False, max_keep_ckpts=2, save_last=False, backend_args={"backend": "atomic"}
        )
        self.stop, self.sound = stop, sound

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Save where it is time to, and stop where that is wanted."""
        stops = torch.tensor(float(self.stop.made))
        all_reduce(stops, "max")
        if stops or self.every_n_train_iters(runner, self.interval):
            self.sound.look(runner)
            self._save_checkpoint(runner)
        if stops:
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
        points = sorted(folder.glob(_PATTERN), key=lambda path: int(path.stem.removeprefix("iter_")), reverse=True)
        found[0] = next((point for point in points if _is_whole(point)), None)
    broadcast_object_list(found)
    return found[0]


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
