"""Data samples, and MMEngine's evaluator around one metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement, InstanceData

import regionclip.evaluation.mmdet_metrics  # noqa: F401  (registered)


def detected(image_id: int, *found: tuple[list[float], int, float], **more: Any) -> BaseDataElement:
    """A data sample with detections (xyxy box, label, score), as MMDetection's detectors hand it out."""
    boxes, labels, scores = ([item[part] for item in found] for part in range(3))
    data = BaseDataElement(metainfo={"img_id": image_id})
    data.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
        **more,
    )
    return data


@pytest.fixture
def run_metric() -> Callable[[dict[str, Any], dict[str, Any], list[list[BaseDataElement]]], dict[str, float]]:
    """A function that builds a metric from its config and runs batches of data samples through an evaluator."""

    def run(config: dict[str, Any], meta: dict[str, Any], batches: list[list[BaseDataElement]]) -> dict[str, float]:
        with DefaultScope.overwrite_default_scope("mmdet"):
            evaluator = Evaluator(config)
        evaluator.dataset_meta = meta
        for batch in batches:
            evaluator.process(batch)
        return evaluator.evaluate(sum(map(len, batches)))

    return run
