"""RoIAlign that waits: equal to torchvision's, and layer4 on it to open_clip's, in values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import RoIAlign
from open_clip.model import CLIP
from torch import Tensor
from torchvision.ops import roi_align

from regionclip.models import region_extractor
from regionclip.models.region_encoder import RegionEncoder
from regionclip.models.region_extractor import Regions

HEIGHT, WIDTH, STRIDE = 5, 7, 16
# Inside, at the rim, across it, far outside; from nothing (or less) to more than the picture.
PLACES = st.one_of(st.floats(-40, 160, width=32), st.sampled_from([-16.0, -8.0, 0.0, 8.0, 72.0, 80.0, 88.0, 112.0]))
SIZES = st.one_of(st.floats(-5, 200, width=32), st.sampled_from([0.0, 1e-3, 1.0, 32.0, 64.0, 80.0, 112.0]))
BOXES = st.lists(st.tuples(st.integers(0, 1), PLACES, PLACES, SIZES, SIZES), min_size=1, max_size=5)


def _layer(side: int = 4, samples: int = 0) -> RoIAlign:
    return RoIAlign(side, 1 / STRIDE, samples, aligned=True, use_torchvision=True)


@pytest.fixture(autouse=True)
def _one_region_is_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_extractor, "FEW", 1)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other devices than the CPU do."""
    monkeypatch.setattr(Regions, "_by_table", False)


@settings(max_examples=150)
@given(boxes=BOXES, side=st.sampled_from([2, 4, 6]), samples=st.sampled_from([0, 0, 1, 3]))
def test_tables_pool_as_torchvision_does(boxes: list[tuple[float, ...]], side: int, samples: int) -> None:
    rois = torch.tensor([[at, x, y, x + w, y + h] for at, x, y, w, h in boxes], dtype=torch.float64).view(-1, 5)
    dice = torch.Generator().manual_seed(len(boxes))
    features = torch.randn(2, 3, HEIGHT, WIDTH, dtype=torch.float64, generator=dice).requires_grad_()
    regions = Regions(features, rois, _layer(side, samples))
    expected = roi_align(features, rois, side, 1 / STRIDE, samples, aligned=True)
    pairs = [(regions.pooled, expected), (regions._pool(features, 2), F.avg_pool2d(expected, 2))]
    for found, wanted in pairs:
        assert torch.allclose(found, wanted, rtol=0, atol=1e-12)
        weights = torch.randn(wanted.shape, dtype=torch.float64, generator=dice)
        ours, theirs = (
            torch.autograd.grad((part * weights).sum(), features, retain_graph=True) for part in (found, wanted)
        )
        assert torch.allclose(ours[0], theirs[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [0, 1, 12])
@pytest.mark.parametrize("way", ["table", "elsewhere"])
def test_the_head_and_its_gradients_are_open_clips(
    clip: CLIP, random_boxes: Callable[[int], Tensor], count: int, way: str, request: pytest.FixtureRequest
) -> None:
    """Few regions, of which the convolutions run after RoIAlign, and many, of which they run before."""
    if way != "table":
        request.getfixturevalue(way)
    encoder, visual = RegionEncoder.from_clip(clip.visual).double().train(), clip.visual.double()
    features = torch.randn(2, 256, 6, 4, dtype=torch.float64).requires_grad_()
    boxes = [random_boxes(count).double(), random_boxes(1).double()]
    pooled = roi_align(features, boxes, 4, 1 / STRIDE, 0, aligned=True)
    found, expected = encoder.encode(features, boxes), visual.attnpool(visual.layer4(pooled))
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    weights = torch.randn_like(expected)
    names = [name for name, _ in visual.named_parameters() if name.startswith(("layer4", "attnpool"))]
    names = [name for name in names if ".bn" not in name and "downsample.1" not in name]
    parts = {"layer4": encoder.res5.layer4, "attnpool": encoder.attention_pool}
    ours = [parts[part].get_parameter(rest) for part, _, rest in (name.partition(".") for name in names)]
    theirs = [visual.get_parameter(name) for name in names]
    found = torch.autograd.grad((found * weights).sum(), [features, *ours])
    expected = torch.autograd.grad((expected * weights).sum(), [features, *theirs])
    for name, one, other in zip(["features", *names], found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-9), name


def test_half_precision_keeps_coordinates() -> None:
    """Boxes of a large map would move by pixels as bfloat16; under autocast the whole head stays close."""
    features = torch.rand(1, 8, 64, 64)
    rois = torch.tensor([[0, 901.0, 903, 1001, 1003]])
    expected = roi_align(features, rois, 4, 1 / STRIDE, 0, aligned=True)
    assert torch.allclose(Regions(features.bfloat16(), rois, _layer()).pooled.float(), expected, atol=0.01)


def test_bfloat16_keeps_the_direction_of_embeddings(clip: CLIP, random_boxes: Callable[[int], Tensor]) -> None:
    encoder = RegionEncoder.from_clip(clip.visual)
    features, boxes = torch.randn(1, 256, 4, 4), [random_boxes(12)]
    with torch.no_grad():
        expected = encoder.encode(features, boxes)
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder.encode(features, boxes)
    assert found.dtype == torch.bfloat16
    assert float(F.cosine_similarity(found.float(), expected).min()) > 0.9999


def test_an_exported_head_takes_any_number_of_regions(clip: CLIP, random_boxes: Callable[[int], Tensor]) -> None:
    """It pools by torchvision's operator and agrees with the tables."""
    encoder = RegionEncoder.from_clip(clip.visual).eval()

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, features: Tensor, rois: Tensor) -> Tensor:
            regions = self.encoder.roi_extractor((features,), rois)
            return self.encoder.attention_pool(self.encoder.res5(regions))

    def rois(count: int) -> Tensor:
        return torch.cat([torch.zeros(count, 1), random_boxes(count)], dim=1)

    features = torch.randn(1, 256, 4, 4)
    shapes = {"features": None, "rois": {0: torch.export.Dim("regions")}}
    with torch.no_grad():
        program = torch.export.export(Head(), (features, rois(5)), dynamic_shapes=shapes)
        assert any("roi_align" in str(node.target) for node in program.graph.nodes)
        given_rois = rois(9)
        expected = encoder.encode(features, [given_rois[:, 1:]])
        assert torch.allclose(program.module()(features, given_rois), expected, atol=1e-5)
