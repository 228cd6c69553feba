"""What a group of processes needs beyond one; the whole is in tests/distributed."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import nn

from regionclip.engine import joint_batch
from regionclip.engine.joint_batch import JointCanvas, JointLossHook, share_of_batch, wrapping
from regionclip.errors import InputError


class Model(BaseModel):
    """A model with a norm."""

    def __init__(self, preprocessor: nn.Module | None = None) -> None:
        super().__init__(preprocessor)
        self.norm = nn.BatchNorm2d(2)

    def forward(self) -> None:
        """Not used; the class must have it."""


class Fixed(Model):
    """A model whose norm stays in evaluation mode, as CLIP's trunk."""

    def train(self, mode: bool = True) -> Fixed:
        super().train(mode).norm.eval()
        return self


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were four processes on the CPU."""
    monkeypatch.setattr(joint_batch, "get_world_size", lambda: 4)
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")


def test_batch_is_dealt_evenly_or_refused(four: None) -> None:
    assert share_of_batch(16) == 4
    with pytest.raises(InputError, match="a batch of 18 cannot be dealt evenly to 4 processes") as caught:
        share_of_batch(18)
    assert caught.value.key == "schedule.batch_size"


def test_one_process_needs_nothing() -> None:
    model = Model(DetDataPreprocessor())
    assert wrapping(model) == {} and model.data_preprocessor.batch_augments is None and share_of_batch(7) == 7


def test_batch_norm_that_trains_is_refused_on_the_cpu(four: None) -> None:
    with pytest.raises(InputError, match="processes on the CPU cannot share its statistics"):
        wrapping(Model())
    settings = wrapping(Fixed())
    assert settings["launcher"] == "pytorch" and "sync_bn" not in settings["cfg"]


def test_batch_norm_that_trains_is_shared_on_cuda(four: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint_batch.runtime, "device", lambda: torch.device("cuda:0"))
    settings = wrapping(Model())["cfg"]
    assert settings["sync_bn"] == "torch" and settings["model_wrapper_cfg"]["device_ids"] == [0]


def test_canvas_is_that_of_the_largest_picture_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has one of 6 x 5; padding is on the right and below, masks too."""

    def other(size: torch.Tensor, kind: str) -> None:
        assert kind == "max"
        size.copy_(torch.maximum(size, torch.tensor([6, 5])))

    monkeypatch.setattr(joint_batch, "all_reduce", other)
    canvas = JointCanvas(DetDataPreprocessor(pad_mask=True, pad_value=7))
    sample = DetDataSample()
    sample.gt_instances = InstanceData(masks=BitmapMasks(torch.ones(1, 4, 8, dtype=torch.uint8).numpy(), 4, 8))
    inputs, (sample,) = canvas(torch.zeros(1, 3, 4, 8), [sample])
    assert inputs.shape == (1, 3, 6, 8) and inputs[0, 0, :4].eq(0).all() and inputs[0, 0, 4:].eq(7).all()
    assert sample.gt_instances.masks.masks.shape == (1, 6, 8) and sample.gt_instances.masks.masks.sum() == 32
    assert sample.batch_input_shape == (6, 8)


def test_hooks_get_the_mean_of_the_processes(four: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint_batch, "all_reduce", lambda values, kind: values.mul_(2) if kind == "mean" else None)
    outputs = {"loss": torch.tensor(1.5), "acc": torch.tensor([20.0])}
    JointLossHook().after_train_iter(None, 0, outputs=outputs)
    assert {name: float(value) for name, value in outputs.items()} == {"loss": 3.0, "acc": 40.0}
