"""HistoryHook: losses and learning rate of a training, as a file of lines and as metrics of the run it is handed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from regionclip.errors import InputError
from regionclip.files import atomic_path

if TYPE_CHECKING:
    from regionclip.tracking.tracker import Tracker

POINTS = 200  # of a learning curve
VALIDATION = "validation_"  # before the names of numbers that are of a validation


class HistoryHook(Hook):
    """Log the mean of each loss over a 200th of the training, and the learning rate; on rank 0 only.

    While the training runs, the run also gets the use of CPU, memory and GPU.

    The history grows in the runner's work folder, so that a resumed training has the whole of it, and is put in its
    place at the end.

    Args:
        history: JSON Lines file to write: ``{"step": 10, "lr": 0.1, "loss": 2.5, ...}``. A validation has a line of its
            own: ``{"step": 10, "validation_ap50": 0.3}``.
        tracker: The MLflow run that gets the same numbers; None writes the file only.
    """

    def __init__(self, history: str | Path, tracker: Tracker | None = None) -> None:
        self.history = Path(history)
        self._tracker = tracker
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0

    def before_train(self, runner: Runner) -> None:
        """Take up the history of the training that is resumed, and log it to this stage's run."""
        if runner.rank != 0:
            return
        self._interval = max(1, runner.max_iters // POINTS)
        self._growing = Path(runner.work_dir) / "history.jsonl"
        kept = _lines_until(self._growing, runner.iter)
        with atomic_path(self._growing) as beside:
            beside.write_text("".join(json.dumps(line) + "\n" for line in kept))
        for line in kept:
            self._track(line)
        if self._tracker is not None:
            self._tracker.watch_system()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add the losses of an iteration; write a line when the interval is full."""
        if runner.rank != 0:
            return
        for name, value in (outputs or {}).items():
            value = torch.as_tensor(value).detach().double()
            self._sums[name] = value + self._sums[name].to(value.device) if name in self._sums else value
        self._count += 1
        step = runner.iter + 1
        if step % self._interval and step != runner.max_iters:
            return
        rates = [rate for group in runner.optim_wrapper.get_lr().values() for rate in group]
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        self._add({"step": step, "lr": rates[0], **means})

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Write the numbers of a validation."""
        if runner.rank == 0:
            self._add({"step": runner.iter + 1, **{VALIDATION + name: value for name, value in metrics.items()}})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the sums of the line that is not full yet, so that a resumed training ends it as another would."""
        checkpoint["open_line"] = {"count": self._count, **{name: float(value) for name, value in self._sums.items()}}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the sums up again."""
        kept = dict(checkpoint.get("open_line", {}))
        self._count = kept.pop("count", 0)
        self._sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in kept.items()}

    def after_train(self, runner: Runner) -> None:
        """Put the whole history in its place."""
        if runner.rank == 0:
            with atomic_path(self.history) as beside:
                beside.write_bytes(self._growing.read_bytes())

    def _add(self, line: dict[str, float]) -> None:
        with self._growing.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._track(line)

    def _track(self, line: dict[str, float]) -> None:
        if self._tracker is None:
            return
        groups: dict[str, dict[str, float]] = {}
        for name, value in line.items():
            group = "validation" if name.startswith(VALIDATION) else "train"
            if name != "step":
                groups.setdefault(group, {})[name.removeprefix(VALIDATION)] = value
        self._tracker.log_metrics(groups, int(line["step"]))


def leave_empty(history: Path) -> None:
    """Write an empty learning curve, because DVC wants the file and nothing was trained."""
    with atomic_path(history) as beside:
        beside.touch()


def _lines_until(path: Path, step: int) -> list[dict[str, float]]:
    """Return the lines up to an iteration; those after it, and a last one cut short by a kill, will be made again."""
    kept = []
    lines = path.read_text().splitlines() if step and path.exists() else []
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            mend = "delete the folder it is in"
            raise InputError(f"not JSON ({error})", file=path, record=f"line {number}", mend=mend) from None
        if line["step"] <= step:
            kept.append(line)
    return kept
