"""A training that validates ends as one that does not, keeps its best weights, stops early, and resumes all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from regionclip.checkpoints.mmengine_files import read
from regionclip.data.datasets.stream import ShuffledStream
from regionclip.engine.history_hook import HistoryHook
from regionclip.engine.training import train
from regionclip.engine.validation_hook import ValidationHook, draw_sheet, publish_training
from regionclip.params.stages import ValidatedSchedule, Validation
from tests.engine.conftest import StopBefore


class Points(Dataset):
    """An endless stream of eight points (x, 3 x); with noise, as no data set of ours, from the global generator."""

    def __init__(self, noise: float = 0.0) -> None:
        self.stream, self.noise = ShuffledStream(8, seed=1), noise

    def __len__(self) -> int:
        return 8

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        _, index = self.stream.locate(position)
        moved = self.noise * torch.randn(2) if self.noise else 0
        return {"inputs": torch.tensor([index / 8, 3 * index / 8]) + moved}


class Slope(BaseModel):
    """A weight fitted to the points with noise from the global generator, behind a norm that has statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm1d(1)

    def forward(self, inputs: list[Tensor], mode: str = "loss") -> dict[str, Tensor]:
        points = torch.stack(inputs)
        error = self.weight * self.norm(points[:, :1])[:, 0] - points[:, 1] + 0.1 * torch.randn(1)
        return {"loss": error.square().mean()}


class Shown:
    """Stands in for the stage's run."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.files: list[str] = []

    def watch_system(self) -> None:
        """Nothing."""

    def log_metrics(self, values: dict[str, Any], step: int) -> None:
        """Keep a line."""
        self.told.append((step, values))

    def log_artifact(self, file: Path) -> None:
        """Keep the name of a file that is there."""
        assert file.stat().st_size
        self.files.append(file.name)


Fit = Callable[..., tuple[BaseModel, ValidationHook | None]]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """A function that trains eight steps in the folder ``name``; the validation after step i gives ``numbers[i]``."""
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    monkeypatch.setenv("REGIONCLIP_CHECKPOINT_INTERVAL", "3")

    def run(
        name: str,
        numbers: dict[int, float] | None,
        *,
        interval: int = 2,
        patience: int | None = None,
        noise: float = 0.0,
        hooks: Sequence[Hook] = (),
        tracker: Shown | None = None,
    ) -> tuple[BaseModel, ValidationHook | None]:
        settings = Validation(interval=interval, patience=patience)
        schedule = ValidatedSchedule(
            iterations=8, batch_size=2, optimizer="AdamW", learning_rate=0.1, weight_decay=0.1, warmup_iterations=3,
            milestones=[6], clip_gradients=None, validation=settings,
        )  # fmt: skip

        def measure(model: BaseModel) -> tuple[dict[str, float | None], list[DetDataSample]]:
            # As a test does: evaluation mode, and a loader, which draws a number.
            model.eval()
            assert len(next(iter(DataLoader([torch.rand(2)] * 4, batch_size=4, shuffle=True)))) == 4
            return {"ap": numbers[int(model.norm.num_batches_tracked)], "none": None}, [_sample(tmp_path)]

        hook = None if numbers is None else ValidationHook(settings, "ap", ("cat", "dog"), measure, tracker)
        watching = [HistoryHook(tmp_path / f"{name}.jsonl", tracker), *([hook] if hook else []), *hooks]
        scratch, data = tmp_path / name, Points(noise)
        return train(Slope(), data, schedule, title="test", seed=3, scratch=scratch, hooks=watching), hook

    return run


def _sample(folder: Path) -> DetDataSample:
    cv2.imwrite(str(folder / "noise.png"), np.full((40, 60, 3), 128, np.uint8))
    boxes = torch.tensor([[5.0, 5, 30, 30]])
    sample = DetDataSample(metainfo={"img_path": str(folder / "noise.png")})
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1]))
    sample.pred_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0]), scores=torch.tensor([0.9]))
    return sample


def _history(folder: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def _same(one: BaseModel, two: BaseModel) -> bool:
    return all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())


RISING, FALLING = {2: 0.1, 4: 0.2, 6: 0.3, 8: 0.4}, {2: 0.3, 4: 0.2, 6: 0.1, 8: 0.0}


def test_training_ends_as_one_that_does_not_validate(fit: Fit, tmp_path: Path) -> None:
    """Bit by bit, though the validation and the data draw from the same generator."""
    plain, _ = fit("plain", None, noise=0.1)
    validated, _ = fit("validated", FALLING, noise=0.1)
    assert _same(plain, validated) and validated.weight.item() != 1.0
    losses = [line for line in _history(tmp_path, "validated") if "loss" in line]
    assert losses == _history(tmp_path, "plain")


@pytest.mark.parametrize("stop", [2, 4, 5, 7])
@pytest.mark.parametrize("patience", [None, 2])
def test_stopped_training_ends_as_the_whole_one(fit: Fit, tmp_path: Path, stop: int, patience: int | None) -> None:
    """Resume points are after steps 3 and 6; the third validation without a gain would be after 8."""
    numbers = {2: 0.3, 4: 0.2, 6: 0.4, 8: 0.4}
    plain, _ = fit("plain", None)
    whole, kept = fit("whole", numbers, patience=patience)
    with pytest.raises(KeyboardInterrupt):
        fit("parts", numbers, patience=patience, hooks=[StopBefore(stop)])
    parts, again = fit("parts", numbers, patience=patience)
    assert _same(plain, whole) and _same(parts, whole)
    assert _history(tmp_path, "parts") == _history(tmp_path, "whole")
    (state, facts), (other, same) = kept.best(), again.best()
    assert facts == same == {"step": "6", "ap": "0.400000"}
    assert all(torch.equal(state[key], other[key]) for key in state)


def test_best_weights_are_those_of_their_step(fit: Fit) -> None:
    """What is kept after step 4 is what a training that is killed behind it would have; an equal number is no gain."""

    class Copy(Hook):
        def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
            if runner.iter + 1 == 4:
                self.state = {key: value.clone() for key, value in runner.model.state_dict().items()}

    copy = Copy()
    _, hook = fit("a", {2: 0.1, 4: 0.5, 6: 0.5, 8: 0.2}, hooks=[copy])
    state, facts = hook.best()
    assert facts == {"step": "4", "ap": "0.500000"}
    assert all(torch.equal(value, copy.state[key]) for key, value in state.items())


def test_training_stops_early_and_ends_with_the_best(fit: Fit, tmp_path: Path, caplog: Any) -> None:
    """The best is after step 2; with a patience of two, the validation after step 6 is the last."""
    model, hook = fit("a", FALLING, patience=2)
    assert "after iteration 6 of 8: ap has not risen for 2 validations" in caplog.text
    assert [line["step"] for line in _history(tmp_path, "a")] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    state, _ = hook.best()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
    assert int(model.norm.num_batches_tracked) == 2
    assert hook.end() == {"step": "2", "ap": "0.300000", "stopped_early": "6"}


def test_early_stop_is_not_passed_when_the_stage_is_run_again(fit: Fit) -> None:
    """Its resume point is of the step that it was stopped in."""
    first, _ = fit("a", FALLING, patience=2)
    again, hook = fit("a", FALLING, patience=2, hooks=[StopBefore(6)])
    assert _same(first, again) and hook.stopped == 6


def test_patience_at_the_last_step_stops_nothing(fit: Fit) -> None:
    model, hook = fit("a", FALLING, patience=3)
    assert int(model.norm.num_batches_tracked) == 8 and hook.end() == {}


def test_last_step_is_validated_whatever_the_interval(fit: Fit, tmp_path: Path) -> None:
    fit("a", {5: 0.1, 8: 0.2}, interval=5)
    lines = [line for line in _history(tmp_path, "a") if "validation_ap" in line]
    assert lines == [{"step": 5, "validation_ap": 0.1}, {"step": 8, "validation_ap": 0.2}]


def test_numbers_and_a_sheet_go_to_the_run(fit: Fit, tmp_path: Path) -> None:
    tracker = Shown()
    fit("a", RISING, tracker=tracker)
    told = [(step, values) for step, values in tracker.told if "validation" in values]
    assert told == [(step, {"validation": {"ap": number}}) for step, number in RISING.items()]
    assert tracker.files == [f"validation_{step}.png" for step in RISING]


def test_best_stands_beside_the_last(fit: Fit, tmp_path: Path) -> None:
    """The last has the name that later stages read, and no word of a validation."""
    model, hook = fit("a", FALLING)
    publish_training(model, tmp_path / "out/clip.pth", {"stage": "x"}, hook)
    state, meta = read(tmp_path / "out/clip.pth")
    assert meta == {"stage": "x"} and int(state["norm.num_batches_tracked"]) == 8
    state, meta = read(tmp_path / "out/best/clip.pth")
    assert meta == {"stage": "x", "step": "2", "ap": "0.300000"} and int(state["norm.num_batches_tracked"]) == 2
    publish_training(model, tmp_path / "out/clip.pth", {}, None)
    assert not (tmp_path / "out/best/clip.pth").exists()


def test_sheet_shows_truth_and_prediction_side_by_side(tmp_path: Path) -> None:
    """A picture of 40 x 60 pixels, eight times its size, twice; the boxes' edges are no longer grey."""
    draw_sheet([_sample(tmp_path)], ("cat", "dog"), tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (320, 960, 3)
    for half in (sheet[:, :480], sheet[:, 480:]):
        assert np.ptp(half[150, 40].astype(int)) + abs(int(half[150, 40].mean()) - 128) > 20
        assert abs(half[300, 400].astype(int) - 128).max() < 3
