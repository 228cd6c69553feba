"""Checkpoints: a resumed training equals the uninterrupted one; files that hold code are refused."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch.utils.data import Dataset

from regionclip.checkpoints.mmengine_files import publish, read, register_safe_loader
from regionclip.data.datasets.stream import ResumableSampler, StreamDataset
from regionclip.engine.training import ResumableIterBasedTrainLoop
from regionclip.errors import InputError


class Line(Dataset):
    """Eight points (x, 3 x)."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index / 8, 3 * index / 8])


class Slope(BaseModel):
    """One weight, fitted to the points by momentum, which is state that a resume must bring back."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs: list[torch.Tensor], mode: str = "loss") -> dict[str, torch.Tensor]:
        """Return the squared error."""
        points = torch.stack(inputs)
        return {"loss": (self.weight * points[:, 0] - points[:, 1]).square().mean()}


class Points(StreamDataset):
    """Points as a model's keyword arguments."""

    def __getitem__(self, position: int) -> dict[str, Any]:
        return {"inputs": super().__getitem__(position)}


def train(folder: Path, iterations: int, name: str) -> Slope:
    """Train up to an iteration, resuming from the folder when it holds a checkpoint."""
    register_safe_loader()
    loader = {
        "dataset": Points(Line(), seed=4), "batch_size": 2, "num_workers": 0,
        "sampler": {"type": ResumableSampler}, "collate_fn": pseudo_collate,
    }  # fmt: skip
    runner = Runner(
        model=Slope(), work_dir=str(folder), train_dataloader=loader, resume=True,
        log_level="ERROR", experiment_name=name,
        train_cfg={"type": ResumableIterBasedTrainLoop, "max_iters": iterations},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        param_scheduler=[{"type": "LinearLR", "start_factor": 0.1, "end": 3, "by_epoch": False}],
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 2, "by_epoch": False}, "logger": None},
    )  # fmt: skip
    return runner.train()


def test_resumed_training_equals_the_uninterrupted_one(tmp_path):
    """Four iterations at once, or two and then, from the checkpoint, two more: the same weight."""
    whole = train(tmp_path / "whole", 4, "whole")
    first = train(tmp_path / "parts", 2, "first")
    second = train(tmp_path / "parts", 4, "second")
    assert first.weight.item() != second.weight.item() == whole.weight.item()


def test_published_checkpoint_is_read_back(tmp_path):
    """Weights and meta come back, and plain torch reads the file with weights_only."""
    meta = {"classes": ["star", "moon"], "teacher": "abc"}
    publish({"a.weight": torch.arange(3.0)}, tmp_path / "x.pth", meta)
    state, got = read(tmp_path / "x.pth")
    assert got == meta and torch.equal(state["a.weight"], torch.arange(3.0))
    assert torch.load(tmp_path / "x.pth", weights_only=True)["meta"] == meta


def test_failed_publish_leaves_nothing(tmp_path):
    """A meta that cannot be written leaves no file."""
    with pytest.raises((AttributeError, pickle.PicklingError)):
        publish({}, tmp_path / "x.pth", {"f": lambda: None})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resume", [False, True])
def test_checkpoint_with_other_types_is_refused(tmp_path, resume):
    """A class that is not on the list is named; nothing of it is run, neither by `read` nor by a Runner's loader."""
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {}, "meta": {"bag": Counter("ab"), "path": Path("a")}}, path)
    register_safe_loader()
    with pytest.raises(InputError, match="could run code") as caught:
        CheckpointLoader.load_checkpoint(str(path)) if resume else read(path)
    assert caught.value.file == path and "pathlib" in caught.value.key


class Attribute:
    """Pickles as a call of ``getattr``."""

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (HistoryBuffer, "__init__")


def test_getattr_gives_the_statistics_only(tmp_path):
    """A resume state may fetch the loss history's statistics by ``getattr``, and nothing else."""
    torch.save({"x": Attribute()}, tmp_path / "x.pth")
    register_safe_loader()
    with pytest.raises(InputError, match="could run code") as caught:
        CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"))
    assert "__init__" in caught.value.key


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "damaged"), (b"no checkpoint", "damaged"), (None, "does not exist")]
)
def test_damaged_checkpoints_are_named(tmp_path, content, problem):
    """Empty, other and missing files give an error with the file."""
    path = tmp_path / "x.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        read(path)
    assert caught.value.file == path


def test_truncated_checkpoint_and_missing_key(tmp_path):
    """Half a checkpoint is damaged; one without meta lacks a key."""
    path = tmp_path / "x.pth"
    publish({"w": torch.zeros(1000)}, path, {})
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="damaged"):
        read(path)
    publish({"w": torch.zeros(1000)}, path, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged"):
        read(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(InputError, match="missing") as caught:
        read(path)
    assert caught.value.key == "meta"
