"""The loop that resumes without decoding refuses a sampler that cannot."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from regionclip.engine.loops import ResumableIterBasedTrainLoop


def test_another_sampler_is_refused() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(2)))
    loop = ResumableIterBasedTrainLoop(SimpleNamespace(), loader, max_iters=1)
    with pytest.raises(TypeError, match="needs a ResumableSampler, got SequentialSampler"):
        loop.run()
