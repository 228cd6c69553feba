"""ProgressHook: a progress bar for training, on rank 0."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class ProgressHook(Hook):
    """Show iterations done, time left and the last loss behind a ``title``; a validation shows its own bar below."""

    def __init__(self, title: str) -> None:
        self.title = title

    def before_train(self, runner: Runner) -> None:
        """Open the bar."""
        columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[loss]}"))
        self._progress = Progress(*Progress.get_default_columns(), *columns, disable=runner.rank != 0)
        self._task = self._progress.add_task(self.title, total=runner.max_iters, completed=runner.iter, loss="")
        self._progress.start()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Move the bar on."""
        if not self._progress.disable:
            loss = f"loss {outputs['loss'].item():.3f}" if outputs and "loss" in outputs else ""
            self._progress.update(self._task, completed=runner.iter + 1, loss=loss)

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self._progress.stop()
