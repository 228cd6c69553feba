"""Losses go to the history file and to the stage's MLflow run, also over an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

from regionclip.checkpoints.training_state import register_safe_loader
from regionclip.errors import InputError
from regionclip.tracking.hook import MLflowHook
from regionclip.tracking.mlflow_run import track


class Countdown(BaseModel):
    """Its loss in iteration i is 10 - i, whatever the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: torch.Tensor, mode: str = "loss") -> dict[str, torch.Tensor]:
        """Return two losses that sum to 10 - i."""
        self.seen += 1
        return {"loss_a": 0 * self.weight.sum() + 8 - self.seen.sum(), "loss_b": torch.tensor(3.0)}


def train(folder: Path, iterations: int, name: str, history: Path, interval: int | None) -> None:
    """Train up to an iteration with a checkpoint every third, going on from the last one."""
    register_safe_loader()
    Runner(
        model=Countdown(), work_dir=str(folder), resume=True, log_level="ERROR", experiment_name=name,
        train_dataloader={"dataset": [{"inputs": 0}] * 50, "batch_size": 1, "sampler": {"type": "DefaultSampler"}},
        train_cfg={"by_epoch": False, "max_iters": iterations},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.5}},
        default_hooks={
            "checkpoint": {"type": "CheckpointHook", "interval": 3, "by_epoch": False, "save_last": False},
            "logger": None,
        },
        custom_hooks=[MLflowHook(history, interval)],
    ).train()  # fmt: skip


def lines(path: Path) -> list[dict]:
    """The lines of a history."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_means_over_the_interval(tmp_path):
    """Losses 10, 9, 8, 7, 6: means over two are 9.5 and 7.5, and the last line has the one that is left."""
    train(tmp_path / "work", 5, "means", tmp_path / "h.jsonl", 2)
    wanted = [
        {"step": step, "lr": 0.5, "loss": loss, "loss_a": loss - 3, "loss_b": 3.0}
        for step, loss in ((2, 9.5), (4, 7.5), (5, 6))
    ]
    assert lines(tmp_path / "h.jsonl") == wanted


def test_resumed_training_has_the_whole_history(tmp_path, client):
    """Stopped after 4 of 6 and resumed from 3, file and MLflow run have each step once, with a torn line mended."""
    train(tmp_path / "work", 4, "first", tmp_path / "h.jsonl", None)
    with (tmp_path / "work" / "history.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    with track("pretrain", {}, {}, profile="demo") as tracker:
        train(tmp_path / "work", 6, "second", tmp_path / "h.jsonl", None)
    steps = [(line["step"], line["loss"]) for line in lines(tmp_path / "h.jsonl")]
    assert steps == [(1, 10), (2, 9), (3, 8), (4, 7), (5, 6), (6, 5)]
    assert [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "train/loss")] == steps
    assert client.get_metric_history(tracker.run_id, "train/lr")[0].value == 0.5


def test_a_line_goes_on_over_an_interruption(tmp_path):
    """Resumed from 3, within the second line of two iterations: its mean is that of both, 8 and 7."""
    train(tmp_path / "work", 4, "stopped", tmp_path / "h.jsonl", 2)
    train(tmp_path / "work", 4, "resumed", tmp_path / "h.jsonl", 2)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "h.jsonl")] == [(2, 9.5), (4, 7.5)]


def test_broken_history_is_named(tmp_path):
    """A line in the middle that is not JSON stops the training with its number."""
    train(tmp_path / "work", 3, "one", tmp_path / "h.jsonl", 1)
    growing = tmp_path / "work" / "history.jsonl"
    growing.write_text("{}x\n" + growing.read_text())
    with pytest.raises(InputError, match="not JSON") as caught:
        train(tmp_path / "work", 4, "two", tmp_path / "h.jsonl", 1)
    assert caught.value.record == "line 1"


def test_a_training_watches_the_machine(tmp_path, client, monkeypatch):
    """The run that receives the losses is the one that receives the use of the machine."""
    watched = []
    monkeypatch.setattr(
        "regionclip.tracking.tracker.SystemMetrics.restart", lambda self, run_id: watched.append(run_id)
    )
    with track("rpn", {}, {}, profile="demo") as tracker:
        assert watched == [], "a stage that does not train is not watched"
        train(tmp_path / "work", 2, "watched", tmp_path / "h.jsonl", None)
    assert watched == [tracker.run_id]
