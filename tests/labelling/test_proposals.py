"""Proposals are stored best first, in original pixels, with their logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from regionclip.labelling.proposals import store_proposals, valid_regions
from regionclip.regions.store import RegionStore


def _sample(boxes: list[list[float]], scores: list[float], image_id: int = 0) -> DetDataSample:
    sample = DetDataSample(metainfo={"img_id": image_id})
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4), scores=torch.tensor(scores), labels=torch.zeros(len(scores))
    )
    return sample


def test_regions_are_sorted_by_logit_and_empty_boxes_dropped() -> None:
    boxes = [[0, 0, 4, 4], [1, 1, 1, 5], [2, 2, 6, 6], [3, 3, 7, 3], [4, 4, 8, 8]]
    kept, logits = valid_regions(_sample(boxes, [-1.5, 9.0, 2.5, 9.0, 0.25]))
    assert kept.tolist() == [[2, 2, 6, 6], [4, 4, 8, 8], [0, 0, 4, 4]]
    assert logits.tolist() == [2.5, 0.25, -1.5]
    assert kept.dtype == logits.dtype == np.float32


def test_equal_logits_keep_their_order() -> None:
    kept, _ = valid_regions(_sample([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [1.0, 2.0, 1.0]))
    assert kept[:, 2].tolist() == [2, 1, 3]


def test_picture_without_regions() -> None:
    kept, logits = valid_regions(_sample([], []))
    assert kept.shape == (0, 4) and logits.shape == (0,)


class Pictures(Dataset):
    """Pictures 11, 12 and 13."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"inputs": torch.zeros(3, 4, 4), "data_samples": DetDataSample(metainfo={"img_id": 11 + index})}


class Proposer(BaseModel):
    """Proposes as many boxes as the id is above 11."""

    def forward(self, inputs: list[torch.Tensor], data_samples: list[DetDataSample], mode: str) -> list[DetDataSample]:
        return [
            _sample(
                [[0.0, 0, 1 + i, 1] for i in range(s.img_id - 11)], [float(i) for i in range(s.img_id - 11)], s.img_id
            )
            for s in data_samples
        ]


def test_store_holds_every_picture_and_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    boxes = store_proposals(Proposer(), Pictures(), tmp_path / "store", {"rpn_sha256": "abc"}, 8)
    store = RegionStore.open(tmp_path / "store")
    assert store.image_ids == list(boxes) == [11, 12, 13] and store.metadata == {"rpn_sha256": "abc"}
    assert store[13].boxes.tolist() == boxes[13].tolist() == [[0, 0, 2, 1], [0, 0, 1, 1]]
    assert store[13].objectness.tolist() == [1.0, 0.0] and len(store[11].boxes) == 0
