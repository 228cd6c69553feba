"""A training whose numbers are not finite stops, says since when, and keeps its last sound resume point."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import Dataset

from regionclip.engine.history_hook import HistoryHook
from regionclip.engine.resume_points import SoundNumbersHook
from regionclip.engine.training import train
from regionclip.errors import InputError
from regionclip.params.stages import Schedule

ITERATIONS = 60


class Numbers(Dataset):
    """An endless stream of the positions themselves."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return {"inputs": torch.tensor(float(position % 8))}


class Faulty(BaseModel):
    """Two weights; ``fault`` changes weight or losses in iteration ``at``."""

    def __init__(self, at: int = 0, fault: Callable[[Faulty, dict[str, Tensor]], None] | None = None) -> None:
        super().__init__()
        self.weight, self.other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
        self.register_buffer("mean", torch.zeros(1))
        self.at, self.fault, self.calls = at, fault, 0

    def forward(self, inputs: list[Tensor], mode: str = "loss") -> dict[str, Tensor]:
        """Return two losses and a number that is none."""
        self.calls += 1
        error = (self.weight.sum() * torch.stack(inputs) - 1).square().mean()
        losses = {"loss_fit": 0.01 * error, "loss_other": self.other.square().sum(), "acc": torch.tensor(math.nan)}
        if self.fault and self.calls == self.at:
            self.fault(self, losses)
        return losses


def _nan_loss(model: Faulty, losses: dict[str, Tensor]) -> None:
    losses["loss_other"] = losses["loss_other"] * math.nan


def _infinite_loss(model: Faulty, losses: dict[str, Tensor]) -> None:
    losses["loss_fit"] = losses["loss_fit"] + math.inf


def _nan_gradient(model: Faulty, losses: dict[str, Tensor]) -> None:
    # The root's slope at 0 is infinite, and times 0 it is none.
    losses["loss_other"] = losses["loss_other"] + (0 * model.other.sum()).abs().sqrt()


def _nan_statistic(model: Faulty, losses: dict[str, Tensor]) -> None:
    model.mean.fill_(math.nan)


def _fit(folder: Path, model: Faulty, unchecked: dict[str, Any] | None = None, **schedule: Any) -> Faulty:
    settings = {
        "iterations": ITERATIONS, "batch_size": 2, "optimizer": "AdamW", "learning_rate": 0.01, "weight_decay": 0.0,
        "warmup_iterations": 0, "milestones": [], "clip_gradients": None,
    }  # fmt: skip
    return train(
        model,
        Numbers(),
        Schedule(**settings | schedule).model_copy(update=unchecked),
        title="x",
        seed=3,
        scratch=folder / "scratch",
        hooks=[HistoryHook(folder / "history.jsonl")],
    )


PER_MODEL, PER_PARAMETER = ({"norm": 1.0, "per": per} for per in ("model", "parameter"))


@pytest.mark.parametrize(
    ("fault", "interval", "clip", "said"),
    [
        (_nan_loss, 10, None, "the loss 'loss_other' is not finite since step 15"),
        (_nan_loss, 1000, PER_MODEL, "the loss 'loss_other' is not finite since step 15"),
        (_infinite_loss, 10, None, "the loss 'loss_fit' is not finite since step 15"),
        (_nan_gradient, 10, PER_PARAMETER, "the gradients are not finite since step 15"),
        (_nan_gradient, 1000, PER_MODEL, "the gradients are not finite since step 15"),
        (_nan_statistic, 10, None, "the weight 'mean' is not finite since step 20"),
    ],
)
def test_it_stops_and_goes_on_from_its_last_sound_point(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[..., None],
    interval: int,
    clip: dict[str, Any] | None,
    said: str,
) -> None:
    """By exit code 2, which nobody tries again; without its cause, a rerun ends as one that had none."""
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", str(interval))
    with pytest.raises(InputError, match=said) as caught:
        _fit(tmp_path / "bad", Faulty(15, fault), clip_gradients=clip)
    points = sorted(path.name for path in (tmp_path / "bad/scratch").glob("iter_*.pth"))
    assert caught.value.exit_code == 2 and not (tmp_path / "bad/history.jsonl").exists()
    assert points == (["iter_10.pth"] if interval == 10 else [])
    assert ("that of step 10" if points else "no resume point yet") in str(caught.value)
    again = _fit(tmp_path / "bad", Faulty(), clip_gradients=clip)
    whole = _fit(tmp_path / "good", Faulty(), clip_gradients=clip)
    assert torch.equal(again.weight, whole.weight) and torch.equal(again.other, whole.other)
    steps = [json.loads(line)["step"] for line in (tmp_path / "bad/history.jsonl").read_text().splitlines()]
    assert steps == list(range(1, ITERATIONS + 1))


@pytest.mark.parametrize("at", [1, ITERATIONS])
def test_first_and_last_iteration_count_too(tmp_path: Path, at: int) -> None:
    """What would be a result must not hold it."""
    with pytest.raises(InputError, match=f"not finite since step {at}"):
        _fit(tmp_path, Faulty(at, _nan_loss))


def test_learning_rate_that_blows_up_the_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not finite since step [0-9]+") as caught:
        _fit(tmp_path, Faulty(), {"learning_rate": 1e30}, optimizer="SGD")
    assert "lower the learning rate" in caught.value.mend and Path(caught.value.file) == tmp_path / "scratch"


def _with_scaler(gradient: float, steps: int) -> None:
    """Make steps whose gradients overflow, or do not, under a scaler as of fp16, and look."""
    model = Faulty()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    wrapper = SimpleNamespace(optimizer=optimizer, loss_scaler=scaler)
    runner = SimpleNamespace(optim_wrapper=wrapper, model=model, iter=0, max_iters=1000, work_dir=".")
    hook = SoundNumbersHook()
    hook.before_train(runner)
    for runner.iter in range(steps):
        loss = model([torch.ones(())])["loss_other"]
        scaler.scale(loss).backward()
        model.other.grad.fill_(gradient)
        scaler.step(optimizer)
        scaler.update()
        hook.after_train_iter(runner, 0, None, {"loss": loss})
    hook.look(runner)


def test_steps_that_a_scaler_skips_are_no_fault_unless_it_skips_all() -> None:
    """After two in a row the scale fits again; after fifty it is nearly nothing, and no weight has moved."""
    _with_scaler(1.0, 3)
    _with_scaler(math.inf, 2)
    with pytest.raises(InputError, match="the gradients are, at any scale, not finite since step 50"):
        _with_scaler(math.nan, 60)
