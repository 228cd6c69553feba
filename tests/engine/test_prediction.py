"""Predictions come in the order of the pictures, one by one, whatever the batch size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from regionclip.engine.prediction import predict


class Numbers(Dataset):
    """Five pictures, each filled with its number."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"inputs": torch.full((3, 4, 4), index), "data_samples": DetDataSample(metainfo={"img_id": index})}


class Reader(BaseModel):
    """Predicts a picture's number; remembers the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, inputs: list[torch.Tensor], data_samples: list[DetDataSample], mode: str) -> list[DetDataSample]:
        assert not self.training and torch.is_inference_mode_enabled() and mode == "predict"
        self.batches.append(len(inputs))
        for picture, sample in zip(inputs, data_samples, strict=True):
            sample.pred_instances = InstanceData(scores=picture[0, 0, :1].float())
        return data_samples


def test_order_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    model = Reader().train()
    samples = list(predict(model, Numbers(), title="test", batch_size=2))
    assert [sample.img_id for sample in samples] == [0, 1, 2, 3, 4]
    assert [sample.pred_instances.scores.item() for sample in samples] == [0, 1, 2, 3, 4]
    assert model.batches == [2, 2, 1]
