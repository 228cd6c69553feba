"""StoreProposals: what an evaluator gives it is in the region store, best first, in original pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData

from regionclip.data.datasets.transforms import LoadStoredProposals
from regionclip.errors import InputError
from regionclip.regions import store_proposals_metric  # noqa: F401  (registered)
from regionclip.regions.store import RegionStore


def _sample(image_id: int, boxes: list[list[float]], logits: list[float]) -> DetDataSample:
    sample = DetDataSample(metainfo={"img_id": image_id})
    sample.pred_instances = InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4), scores=torch.tensor(logits))
    return sample


def _evaluate(store: Path, batches: list[list[DetDataSample]]) -> dict[str, float]:
    metric = METRICS.build({"type": "StoreProposals", "store": str(store), "metadata": {"config": "rpn_test"}})
    evaluator = Evaluator([metric])
    for batch in batches:
        evaluator.process(batch)
    return evaluator.evaluate(sum(map(len, batches)))


def test_store_holds_what_was_proposed(tmp_path: Path) -> None:
    """Two batches: boxes are sorted by logit, one without area is left out, logits keep their sign, an image may be
    empty; ``LoadStoredProposals`` finds them by image id."""
    first = _sample(7, [[0, 0, 4, 4], [1, 1, 9, 9], [5, 5, 5, 8]], [-2.5, 3.0, 9.0])
    numbers = _evaluate(tmp_path / "store", [[first, _sample(3, [], [])], [_sample(5, [[2, 2, 6, 8]], [0.5])]])
    assert numbers == {"proposals/images": 3, "proposals/regions": 3}
    store = RegionStore.open(tmp_path / "store")
    assert store.image_ids == [7, 3, 5]
    assert store.metadata == {"config": "rpn_test"}
    assert len(store[3].boxes) == 0
    found = LoadStoredProposals(str(tmp_path / "store"))({"img_id": 7})
    np.testing.assert_array_equal(found["proposals"], [[1, 1, 9, 9], [0, 0, 4, 4]])
    np.testing.assert_array_equal(found["proposals_scores"], [3.0, -2.5])


def test_nothing_is_half_written(tmp_path: Path) -> None:
    """A logit that is not finite stops the test run, and no store is left behind."""
    with pytest.raises(InputError, match="record 2, key 'objectness'"):
        _evaluate(tmp_path / "store", [[_sample(1, [[0, 0, 4, 4]], [1.0]), _sample(2, [[0, 0, 4, 4]], [float("inf")])]])
    assert list(tmp_path.iterdir()) == []
