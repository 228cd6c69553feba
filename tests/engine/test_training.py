"""One way to train: the schedule is the one that was asked for, and a training goes on exactly where it stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset, TensorDataset

from regionclip.data.datasets.stream import ShuffledStream
from regionclip.engine.history_hook import HistoryHook
from regionclip.engine.training import ResumableIterBasedTrainLoop, train
from regionclip.params.stages import Schedule
from tests.engine.conftest import StopBefore


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
    """One weight fitted to the points with noise from the global generator, and one that is frozen."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.noise = noise
        self.weight = nn.Parameter(torch.ones(1))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, inputs: list[Tensor], mode: str = "loss") -> dict[str, Tensor]:
        points = torch.stack(inputs)
        error = self.weight * points[:, 0] - points[:, 1] + self.noise * torch.randn(1)
        return {"loss_fit": self.frozen * error.square().mean(), "bias": error.mean().detach()}


class Pair(BaseModel):
    """Two weights from 0, whose gradients are always 3 and 4."""

    def __init__(self) -> None:
        super().__init__()
        self.three, self.four = (torch.nn.Parameter(torch.zeros(())) for _ in range(2))

    def forward(self, inputs: list[Tensor], mode: str) -> dict[str, Tensor]:
        return {"loss": 3 * self.three + 4 * self.four}


class Constant(BaseModel):
    """Its gradient is 100 at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: list[Tensor], mode: str = "loss") -> dict[str, Tensor]:
        return {"loss": 100 * self.weight.sum()}


Train = Callable[..., BaseModel]


def _schedule(**changes: Any) -> Schedule:
    values = {
        "iterations": 6, "batch_size": 2, "optimizer": "SGD", "learning_rate": 0.1, "weight_decay": 0.0,
        "warmup_iterations": 0, "milestones": [100], "clip_gradients": None,
    }  # fmt: skip
    return Schedule(**values | changes)


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """A function that trains in the folder ``name``, seed 3, without helper processes."""
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")

    def run(model: BaseModel, schedule: Schedule, name: str = "a", hooks: Sequence[Hook] = ()) -> BaseModel:
        hooks = [HistoryHook(tmp_path / f"{name}.jsonl"), *hooks]
        return train(model, Points(), schedule, title="test", seed=3, scratch=tmp_path / name, hooks=hooks)

    return run


def _history(folder: Path, name: str = "a") -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_rate_warms_up_and_falls_by_ten_at_each_milestone(fit: Train, tmp_path: Path) -> None:
    """Warm-up of 3 iterations: a thousandth, about half, the whole; milestones at 4 and 5."""
    fit(Slope(), _schedule(warmup_iterations=3, milestones=[4, 5]))
    rates = [line["lr"] for line in _history(tmp_path)]
    assert rates == pytest.approx([0.0001, 0.05005, 0.1, 0.1, 0.01, 0.001])


def test_history_has_every_loss_of_every_step(fit: Train, tmp_path: Path) -> None:
    fit(Slope(), _schedule(iterations=3))
    history = _history(tmp_path)
    assert [line["step"] for line in history] == [1, 2, 3]
    assert all(line["loss"] == line["loss_fit"] > 0 and line["bias"] < 0 for line in history)


def test_steps_do_not_wait_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of forty more steps each reads one number, whether a stop was asked for, which lies on the CPU always."""
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "1000")
    read = {}
    for steps in (5, 45):
        with _Reads() as reads:
            train(
                Slope(),
                Points(),
                _schedule(iterations=steps),
                title="t",
                seed=3,
                scratch=tmp_path / f"{steps}",
                hooks=[],
            )
        read[steps] = reads.count
    assert read[45] - read[5] == 40


class _Reads(TorchDispatchMode):
    """Counts the numbers that are read off tensors."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func._schema.name == "aten::_local_scalar_dense"
        return func(*args, **kwargs or {})


def test_sgd_has_momentum_and_weight_decay(fit: Train) -> None:
    """Gradients 100 + 0.5 w; velocities 100, then 0.9 x 100 + 100 - 5; the weight goes to -10, then to -28.5."""
    model = fit(Constant(), _schedule(iterations=2, weight_decay=0.5))
    assert model.weight.item() == pytest.approx(-28.5)


def test_adamw_steps_by_the_rate(fit: Train) -> None:
    """A constant gradient moves the weight by the learning rate, whatever the gradient's size."""
    model = fit(Constant(), _schedule(iterations=3, optimizer="AdamW"))
    assert model.weight.item() == pytest.approx(-0.3, rel=1e-4)


@pytest.mark.parametrize(("per", "moved"), [("model", [-0.15, -0.2]), ("parameter", [-0.25, -0.25])])
def test_gradients_are_clipped_to_a_norm(fit: Train, per: str, moved: list[float]) -> None:
    """Gradients 3 and 4 have norm 5 together; clipped to 2.5 they are 1.5 and 2, or 2.5 each. The rate is 0.1."""
    model = fit(Pair(), _schedule(iterations=1, clip_gradients={"norm": 2.5, "per": per}))
    assert [model.three.item(), model.four.item()] == pytest.approx(moved)


def test_frozen_weights_do_not_decay(fit: Train) -> None:
    model = fit(Slope(), _schedule(weight_decay=0.5))
    assert model.frozen.item() == 1.0 and model.weight.item() != 1.0


def test_trained_model_is_ready_for_use(fit: Train) -> None:
    model = fit(Slope(), _schedule(iterations=1))
    assert not model.training and model.weight.device.type == "cpu"


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("stop", [2, 3, 5])
def test_stopped_training_ends_as_the_whole_one(
    fit: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, stop: int
) -> None:
    """Optimiser state, schedule, data, random numbers and history all go on; resume points are two steps apart."""
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "2")
    schedule = _schedule(optimizer=optimizer, warmup_iterations=3, milestones=[4])
    whole = fit(Slope(noise=0.1), schedule, "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(Slope(noise=0.1), schedule, "parts", hooks=[StopBefore(stop)])
    assert not (tmp_path / "parts.jsonl").exists()
    parts = fit(Slope(noise=0.1), schedule, "parts")
    assert parts.weight.item() == whole.weight.item() != 1.0
    assert _history(tmp_path, "parts") == _history(tmp_path, "whole")


@pytest.mark.parametrize(("signalled", "error"), [(True, KeyboardInterrupt), (False, RuntimeError)])
def test_helpers_that_end_with_the_signal_are_an_interruption(
    fit: Train, signalled: bool, error: type[BaseException]
) -> None:
    """A loader without its helpers raises a RuntimeError in the step."""

    class Lost(Hook):
        def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
            if signalled:
                os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker is killed by signal: Terminated.")

    with pytest.raises(error):
        fit(Slope(), _schedule(), hooks=[Lost()])


def test_finished_training_is_not_done_again(fit: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that trains two models and is stopped in the second finds the first done."""
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "3")
    first = fit(Slope(), _schedule())
    again = fit(Slope(), _schedule(), hooks=[StopBefore(0)])
    assert again.weight.item() == first.weight.item()
    assert [line["step"] for line in _history(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_global_generators_do_not_matter(fit: Train) -> None:
    """What was drawn before a training does not change it."""
    first = fit(Slope(noise=0.1), _schedule(), "first")
    torch.rand(17)
    assert fit(Slope(noise=0.1), _schedule(), "second").weight.item() == first.weight.item()


def test_two_resume_points_are_kept(fit: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "1")
    fit(Slope(), _schedule())
    assert {path.name for path in (tmp_path / "a").glob("*.pth")} == {"iter_5.pth", "iter_6.pth"}


def test_damaged_resume_point_is_told_and_the_one_before_is_taken(
    fit: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "2")
    whole = fit(Slope(noise=0.1), _schedule(), "whole")
    fit(Slope(noise=0.1), _schedule())
    (tmp_path / "a/iter_6.pth").write_bytes((tmp_path / "a/iter_6.pth").read_bytes()[:-500])
    again = fit(Slope(noise=0.1), _schedule(), hooks=[StopBefore(0), StopBefore(3)])
    assert "iter_6.pth: damaged, cut short" in caplog.text
    assert again.weight.item() == whole.weight.item() and _history(tmp_path) == _history(tmp_path, "whole")


def test_a_sampler_that_cannot_resume_is_refused() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(2)))
    loop = ResumableIterBasedTrainLoop(SimpleNamespace(), loader, max_iters=1)
    with pytest.raises(TypeError, match="needs a ResumableSampler, got SequentialSampler"):
        loop.run()
