"""Run a detector over a data set, with a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from regionclip import runtime

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample


def predict(model: BaseModel, dataset: Dataset, *, title: str, batch_size: int) -> Iterator[DetDataSample]:
    """Yield the predictions for each picture, in order, on the CPU, boxes in original pixels.

    Args:
        model: An MMDetection detector.
        dataset: Gives ``inputs`` and ``data_samples``.
        title: Shown by the progress bar.
        batch_size: Pictures at a time, padded to one size.
    """
    model = model.to(runtime.device(), memory_format=torch.channels_last).eval()
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=runtime.workers(), collate_fn=pseudo_collate)
    for batch in track(loader, description=title):
        with torch.inference_mode():
            samples = model.test_step(batch)
        yield from (sample.cpu() for sample in samples)
