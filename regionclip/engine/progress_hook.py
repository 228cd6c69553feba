"""ProgressHook: a progress bar for training, on rank 0."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressHook(Hook):
    """Show iterations done, time left and the last loss.

    Args:
        title: Text before the bar.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._progress: Progress | None = None

    def before_train(self, runner: Runner) -> None:
        """Open the bar."""
        if runner.rank != 0:
            return
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
        )
        self._progress = Progress(TextColumn("{task.description}"), *columns)
        self._task = self._progress.add_task(self.title, total=runner.max_iters, completed=runner.iter, loss="")
        self._progress.start()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Move the bar on."""
        if self._progress is not None:
            loss = f"loss {outputs['loss'].item():.3f}" if outputs and "loss" in outputs else ""
            self._progress.update(self._task, completed=runner.iter + 1, loss=loss)

    def before_val_epoch(self, runner: Runner) -> None:
        """Make room for the validation's own bar."""
        if self._progress is not None:
            self._progress.stop()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Show the bar again."""
        if self._progress is not None:
            self._progress.start()

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
