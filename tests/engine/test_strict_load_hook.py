"""StrictLoadHook: a checkpoint that does not fit stops the run; what is allowed by name does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regionclip.engine.exported import StrictLoadHook
from regionclip.errors import InputError

EMBEDDINGS = "roi_head.bbox_head.fc_cls.embeddings"


def _load(state: dict[str, Tensor]) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm2d(3))
    model.register_module("roi_head", nn.Module())
    model.roi_head.bbox_head = nn.Module()
    model.roi_head.bbox_head.fc_cls = nn.Module()
    model.roi_head.bbox_head.fc_cls.register_buffer("embeddings", torch.zeros(4, 3))
    runner: Any = SimpleNamespace(model=model, cfg={"load_from": "some.pth"}, work_dir="runs")
    own = model.state_dict()
    StrictLoadHook().after_load_checkpoint(runner, {"state_dict": {**own, **state}} if state else {})


def test_fitting_checkpoint_passes() -> None:
    """Equal keys and shapes are no reason to stop; the same key in another shape is."""
    _load({"0.weight": torch.zeros(3, 2)})
    with pytest.raises(InputError, match="another shape"):
        _load({"0.weight": torch.zeros(3, 3)})


def test_vocabulary_and_counters_may_be_absent() -> None:
    """A text bank gives the vocabulary, and no result depends on the counters."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm2d(3))
    state = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    model.roi_head = nn.Module()
    model.roi_head.bbox_head = nn.Module()
    model.roi_head.bbox_head.fc_cls = nn.Module()
    model.roi_head.bbox_head.fc_cls.register_buffer("embeddings", torch.zeros(4, 3))
    runner: Any = SimpleNamespace(model=model, cfg={}, work_dir="runs")
    StrictLoadHook().after_load_checkpoint(runner, {"state_dict": state})


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"backbone.weight": torch.zeros(1)}, r"some\.pth, key 'backbone\.weight': .*1 unexpected"),
        ({"0.weight": torch.zeros(3, 5)}, r"some\.pth, key '0\.weight': .*wanted \(3, 2\), got \(3, 5\)"),
        ({}, r"some\.pth, key '0\.bias': .*missing"),
        ({"0.weight": torch.full((3, 2), torch.nan)}, r"some\.pth, key '0\.weight': .*not finite"),
    ],
    ids=["left over", "another shape", "missing", "not finite"],
)
def test_misfit_is_refused(state: dict[str, Tensor], words: str) -> None:
    """The message names the file, the first key at fault and the counts."""
    with pytest.raises(InputError, match=words):
        _load(state)
