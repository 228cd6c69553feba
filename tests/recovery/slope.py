"""A program that fits a slope with random noise, slowly enough to be stopped; several processes may share it.

Usage: slope.py OUT ITERATIONS SECONDS_A_STEP [BAD]. Ends with 4 when it was interrupted, as a stage does. The loss of
the last process is no number at step BAD.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import Dataset

from regionclip import runtime
from regionclip.data.datasets.stream import ShuffledStream
from regionclip.engine.history_hook import HistoryHook
from regionclip.engine.launch import process_group
from regionclip.engine.training import train
from regionclip.errors import InputError, Interrupted
from regionclip.params.stages import Schedule


class Points(Dataset):
    """An endless stream of eight points (x, 3 x)."""

    def __init__(self) -> None:
        self.stream = ShuffledStream(8, seed=1)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        _, index = self.stream.locate(position)
        return {"inputs": torch.tensor([index / 8, 3 * index / 8])}


class Slope(BaseModel):
    """One weight fitted to the points with noise from the global generator; 100,000 others make it large."""

    def __init__(self, seconds: float = 0.0, bad: int = 0) -> None:
        super().__init__()
        self.seconds, self.steps_left = seconds, bad if get_rank() == get_world_size() - 1 else 0
        self.weight, self.ballast = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(100_000))

    def forward(self, inputs: list[Tensor], mode: str = "loss") -> dict[str, Tensor]:
        """Wait, and return the loss."""
        time.sleep(self.seconds)
        points = torch.stack(inputs)
        error = self.weight * points[:, 0] - points[:, 1] + 0.1 * torch.randn(1)
        self.steps_left -= 1
        return {"loss_fit": error.square().mean() / (0 if self.steps_left == 0 else 1) + 1e-9 * self.ballast.sum()}


def fit(out: Path, iterations: int, seconds: float = 0.0, bad: int = 0, hooks: Sequence[Hook] = ()) -> Slope:
    """Train in ``out``; the first process writes weight.pt."""
    schedule = Schedule(
        iterations=iterations, batch_size=2, optimizer="AdamW", learning_rate=0.1, weight_decay=0.0,
        warmup_iterations=3, milestones=[iterations - 1], clip_gradients=None,
    )  # fmt: skip
    model, hooks = Slope(seconds, bad), [HistoryHook(out / "history.jsonl"), *hooks]
    trained = train(model, Points(), schedule, title="slope", seed=3, scratch=out / "scratch", hooks=hooks)
    if is_main_process():
        torch.save(trained.state_dict(), out / "weight.pt")
    return trained


def main() -> int:
    """Return the exit code that the stage would end with."""
    try:
        with process_group() if runtime.inside_group() else nullcontext():
            fit(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
    except (KeyboardInterrupt, Interrupted):
        return Interrupted.exit_code
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
