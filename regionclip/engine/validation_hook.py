"""ValidationHook: measures a training at an interval, keeps the best weights, and stops where nothing is gained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import EarlyStoppingHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from regionclip.artifacts import BEST
from regionclip.checkpoints.mmengine_files import publish, read
from regionclip.data.pictures import to_bgr
from regionclip.engine.joint_batch import unwrapped
from regionclip.errors import logger
from regionclip.files import atomic_path
from regionclip.params.stages import Validation

if TYPE_CHECKING:
    from regionclip.tracking.tracker import Tracker

_log = logger(__name__)
PICTURES, BOXES, LEAST_SCORE = 4, 8, 0.3
_HEIGHT = 320  # pixels of a picture on a sheet

Measure = Callable[[BaseModel], tuple[dict[str, float | None], list[DetDataSample]]]
"""Gives numbers by name, and some pictures with ``gt_instances`` and ``pred_instances`` in original pixels."""


class ValidationHook(EarlyStoppingHook):
    """Measure the model every ``interval`` iterations and after the last one; MMEngine's hook decides when to stop.

    The weights of the highest number are kept in the runner's work folder. A training that is stopped early ends with
    them; any other ends with its last weights.

    It draws no random number of the training and changes no weight, so that a training that validates ends as one that
    does not. What it knows is in the resume points: a resumed training validates at the same steps, with the same end.

    Args:
        settings: Interval and patience.
        monitor: The number that chooses; more is better.
        names: What the labels of the boxes on a sheet are called.
        measure: Called in all processes of a group; what the first returns counts.
        tracker: Gets a sheet of the predicted boxes of each validation; the numbers reach it by `HistoryHook`.
    """

    # Behind the line of the losses, and before the resume point, which is to hold what was found.
    priority = "LOW"

    def __init__(
        self, settings: Validation, monitor: str, names: Sequence[str], measure: Measure, tracker: Tracker | None
    ) -> None:
        # MMEngine takes an equal number for a gain, unless the least gain is above 0.
        super().__init__(monitor, "greater", min_delta=1e-9, strict=True, patience=settings.patience or math.inf)
        self.interval, self.names, self.measure, self._tracker = settings.interval, names, measure, tracker
        self.stopped: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Go on from a resume point; one of a training that was stopped early is its end."""
        self._best = Path(runner.work_dir) / "best.pth"
        runner.train_loop.stop_training = self.wait_count >= self.patience

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Measure where it is time to, and tell the hooks, this one too."""
        step = runner.iter + 1
        if step % self.interval and step != runner.max_iters:
            return
        runner.call_hook("before_val_epoch")
        # A loader draws a number even where nothing is shuffled.
        with torch.random.fork_rng(devices=[]):
            numbers, samples = self.measure(unwrapped(runner))
        found = [{name: value for name, value in numbers.items() if value is not None}]
        broadcast_object_list(found)
        if is_main_process() and self._tracker is not None:
            sheet = Path(runner.work_dir) / f"validation_{step}.png"
            draw_sheet(samples, self.names, sheet)
            self._tracker.log_artifact(sheet)
        runner.call_hook("after_val_epoch", metrics=found[0])

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Keep the weights if they are the best so far, and ask for the end if there was no gain for too long."""
        super().after_val_epoch(runner, metrics)
        if self.wait_count == 0 and is_main_process():
            facts = {"step": str(runner.iter + 1), self.monitor: f"{self.best_score:.6f}"}
            publish(unwrapped(runner).state_dict(), self._best, facts)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put what was found so far into a resume point."""
        checkpoint["validation"] = {"best_score": self.best_score, "wait_count": self.wait_count}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        kept = checkpoint["validation"]
        self.best_score, self.wait_count = kept["best_score"], kept["wait_count"]

    def after_train(self, runner: Runner) -> None:
        """End with the best weights where the training was stopped early, and say so."""
        if self.wait_count < self.patience or runner.iter >= runner.max_iters:
            return
        self.stopped = runner.iter
        state, facts = self.best()
        unwrapped(runner).load_state_dict(state)
        if is_main_process():
            _log.warning(
                "Stopped early, after iteration %d of %d: %s has not risen for %d validations. "
                "The result is that of iteration %s, with %s.",
                runner.iter, runner.max_iters, self.monitor, self.wait_count, facts["step"], facts[self.monitor],
            )  # fmt: skip

    def best(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Return the best weights, and the step and number that they are of, as text."""
        return read(self._best)

    def end(self) -> dict[str, str]:
        """Return what a training's result is to say of itself: nothing, unless it was stopped early."""
        return {} if self.stopped is None else {**self.best()[1], "stopped_early": str(self.stopped)}


def publish_training(model: BaseModel, file: Path, meta: dict[str, Any], validation: ValidationHook | None) -> None:
    """Write what a training ended with (see `publish`), and beside it, in ``best/``, the best of its validation.

    The best weights have their step and number in ``meta`` too.
    """
    publish(model.state_dict(), file, meta if validation is None else {**meta, **validation.end()})
    best = file.parent / BEST / file.name
    if validation is None:
        best.unlink(missing_ok=True)
    else:
        state, facts = validation.best()
        publish(state, best, {**meta, **facts})


def shown(sample: DetDataSample) -> DetDataSample:
    """Return what a sheet needs of a test's prediction, the true boxes in original pixels as the predicted ones are."""
    truth, found = sample.gt_instances, sample.pred_instances
    scale = torch.tensor([*sample.scale_factor, *sample.scale_factor])
    kept = DetDataSample(metainfo={"img_path": sample.img_path})
    kept.gt_instances = InstanceData(bboxes=truth.bboxes / scale, labels=truth.labels)
    kept.pred_instances = InstanceData(bboxes=found.bboxes, labels=found.labels, scores=found.scores)[:BOXES]
    return kept


def draw_sheet(samples: Sequence[DetDataSample], names: Sequence[str], file: Path) -> None:
    """Draw pictures (see `shown`) in rows, true boxes on the left and predicted ones on the right, as a PNG file."""
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = {"classes": list(names)}
    rows = []
    for sample in samples:
        picture = np.ascontiguousarray(to_bgr(sample.img_path)[..., ::-1])
        scale = _HEIGHT / picture.shape[0]
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        larger = sample.clone()
        for boxes in (larger.gt_instances, larger.pred_instances):
            boxes.bboxes = boxes.bboxes * scale
        visualizer.add_datasample("validation", picture, larger, pred_score_thr=LEAST_SCORE)
        rows.append(visualizer.get_image())
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
    with atomic_path(file) as beside:
        beside.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
