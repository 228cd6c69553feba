"""Losses go to the history file and to the run that the hook was handed, also over an interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

from regionclip.checkpoints.mmengine_files import register_safe_loader
from regionclip.engine import history_hook
from regionclip.engine.history_hook import HistoryHook
from regionclip.errors import InputError


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


class Recorder:
    """Stands in for the stage's run: keeps what it is told, by step."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Mapping[str, float]]] = []
        self.watched = 0

    def watch_system(self) -> None:
        """Count the calls."""
        self.watched += 1

    def log_metrics(self, values: Mapping[str, Mapping[str, float]], step: int) -> None:
        """Keep a line."""
        self.told.append((step, values["train"]))


def train(folder: Path, iterations: int, name: str, history: Path, tracker: Recorder | None = None) -> None:
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
        custom_hooks=[HistoryHook(history, tracker)],
    ).train()  # fmt: skip


def lines(path: Path) -> list[dict]:
    """The lines of a history."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_means_over_the_interval(tmp_path, monkeypatch):
    """Losses 10, 9, 8, 7, 6: means over two are 9.5 and 7.5, and the last line has the one that is left."""
    monkeypatch.setattr(history_hook, "POINTS", 2)
    train(tmp_path / "work", 5, "means", tmp_path / "h.jsonl")
    wanted = [
        {"step": step, "lr": 0.5, "loss": loss, "loss_a": loss - 3, "loss_b": 3.0}
        for step, loss in ((2, 9.5), (4, 7.5), (5, 6))
    ]
    assert lines(tmp_path / "h.jsonl") == wanted


def test_resumed_training_has_the_whole_history(tmp_path):
    """Stopped after 4 of 6 and resumed from 3, file and new run have each step once, with a torn line mended; the run
    that gets the losses is the one that watches the machine."""
    train(tmp_path / "work", 4, "first", tmp_path / "h.jsonl")
    run = Recorder()
    with (tmp_path / "work" / "history.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    train(tmp_path / "work", 6, "second", tmp_path / "h.jsonl", run)
    steps = [(line["step"], line["loss"]) for line in lines(tmp_path / "h.jsonl")]
    assert steps == [(1, 10), (2, 9), (3, 8), (4, 7), (5, 6), (6, 5)]
    assert [(step, values["loss"]) for step, values in run.told] == steps
    assert run.told[0][1]["lr"] == 0.5 and "step" not in run.told[0][1] and run.watched == 1


def test_a_line_goes_on_over_an_interruption(tmp_path, monkeypatch):
    """Resumed from 3, within the second line of two iterations: its mean is that of both, 8 and 7."""
    monkeypatch.setattr(history_hook, "POINTS", 2)
    train(tmp_path / "work", 4, "stopped", tmp_path / "h.jsonl")
    train(tmp_path / "work", 4, "resumed", tmp_path / "h.jsonl")
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "h.jsonl")] == [(2, 9.5), (4, 7.5)]


def test_broken_history_is_named(tmp_path):
    """A line in the middle that is not JSON stops the training with its number."""
    train(tmp_path / "work", 3, "one", tmp_path / "h.jsonl")
    growing = tmp_path / "work" / "history.jsonl"
    growing.write_text("{}x\n" + growing.read_text())
    with pytest.raises(InputError, match="not JSON") as caught:
        train(tmp_path / "work", 4, "two", tmp_path / "h.jsonl")
    assert caught.value.record == "line 1"
