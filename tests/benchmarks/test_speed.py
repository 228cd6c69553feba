"""Each pair of the speed benchmark does the same work twice: equal results at small sizes, and a page of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import paired, speed

SMALL = {
    "head": dict(regions=3, side=160),
    "text": dict(names=1),
    "soft_nms": dict(proposals=40, classes=3),
    "head_bfloat16": dict(regions=3, side=160),
    "pretrain": dict(regions=3, side=96),
    "pretrain_bfloat16": dict(regions=3, side=96),
    "finetune": dict(regions=64, side=96),
    "zero_shot": dict(proposals=20, side=96),
    "zero_shot_bfloat16": dict(proposals=20, side=96),
}
CLIP = dict(
    embed_dim=256,
    vision_cfg=dict(layers=[1, 1, 1, 1], width=8, head_width=8, image_size=32),
    text_cfg=dict(context_length=40, vocab_size=49408, width=16, heads=2, layers=1),
)


@pytest.mark.parametrize("part", speed.PAIRS)
def test_both_sides_give_the_same(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.open_clip, "get_model_config", lambda name: CLIP)
    sizes: dict[str, Any] = SMALL[part]
    torch.manual_seed(0)
    pair = speed.PAIRS[part](torch.device("cpu"), **sizes)
    # A zero-shot score is a softmax of cosines over 0.01: their rounding counts up to 25 times.
    bar = (0.02 if part.endswith("bfloat16") else 1e-5) * (5 if part.startswith("zero_shot") else 1)
    assert pair.difference < bar
    found = paired.measure(pair, 3, torch.device("cpu"))
    assert found["least_ratio"] <= found["ratio"] <= found["largest_ratio"]
    assert f"| {pair.work} |" in paired.page({"device": "here"}, {part: found})
