"""Deltas are bounded from above only, as in Detectron2's Box2BoxTransform."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

BOX = torch.tensor([[0.0, 0, 1000, 1000]])


def _decode(deltas: list[float], coder: str = "UpperClipBBoxCoder", **kwargs: object) -> Tensor:
    return TASK_UTILS.build(dict(type=coder, **kwargs)).decode(BOX, torch.tensor([deltas]))[0]


@pytest.mark.parametrize("stds", [(1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)])
def test_boxes_may_shrink_to_nothing_but_not_grow_beyond_a_factor(stds: tuple[float, ...]) -> None:
    """e^-6 of the width, where the stock coder stops at 1.6 %; and a growth of at most 1000 / 16."""
    left, top, right, bottom = _decode([0, 0, -6 / stds[2], 9 / stds[3]], target_stds=stds).tolist()
    assert right - left == pytest.approx(1000 * math.exp(-6), abs=1e-3)
    assert bottom - top == pytest.approx(1000 * 62.5, rel=1e-5)
    stock = _decode([0, 0, -6 / stds[2], 9 / stds[3]], "DeltaXYWHBBoxCoder", target_stds=stds)
    assert float(stock[2] - stock[0]) == pytest.approx(16, rel=1e-3)


def test_deltas_within_the_bounds_decode_as_the_stock_coder_decodes_them() -> None:
    deltas = [0.3, -0.2, math.log(0.5), math.log(2)]
    assert torch.equal(_decode(deltas), _decode(deltas, "DeltaXYWHBBoxCoder"))
    assert _decode(deltas).tolist() == pytest.approx([550, -700, 1050, 1300])
