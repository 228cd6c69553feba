"""mmcv-lite works with torchvision's operators, and says so where it cannot."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv._ext import UnsupportedOperator
from mmcv.ops import RoIAlign, batched_nms, nms, nms_rotated, soft_nms

from regionclip.errors import InputError
from regionclip.mmcv_ops import soft_nms as soft_nms_by_class

BOXES = torch.tensor([[20.0, 20, 30, 30], [0, 0, 10, 5], [0, 0, 10, 10]])  # the last two overlap by 0.5
SCORES = torch.tensor([0.7, 0.8, 0.9])


def test_nms_keeps_the_best_of_overlapping_boxes() -> None:
    dets, kept = nms(BOXES, SCORES, iou_threshold=0.4)
    assert kept.tolist() == [2, 0]
    assert torch.equal(dets[:, 4], torch.tensor([0.9, 0.7]))
    assert nms(BOXES, SCORES, iou_threshold=0.5)[1].tolist() == [2, 1, 0], "an overlap equal to the threshold stays"


def test_nms_offset_counts_pixels_inclusively() -> None:
    # With offset 1 the areas are 11 * 6 and 11 * 11: an overlap of 6 / 11 > 0.54.
    assert nms(BOXES, SCORES, iou_threshold=0.54, offset=1)[1].tolist() == [2, 0]
    assert nms(BOXES, SCORES, iou_threshold=0.55, offset=1)[1].tolist() == [2, 1, 0]


def _nms_in_float32(boxes: np.ndarray, order: list[int], threshold: float, offset: int) -> list[int]:
    """Suppress what overlaps a better box by more than the threshold, each step in float32 as mmcv's kernel counts."""
    kept: list[int] = []
    for index in order:
        box, one, free = boxes[index], np.float32(offset), True
        for other in boxes[kept]:
            sides = np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]) + one, np.float32(0))
            inter = sides[0] * sides[1]
            areas = [(a[2] - a[0] + one) * (a[3] - a[1] + one) for a in (other, box)]
            free &= not inter / (areas[0] + areas[1] - inter) > np.float32(threshold)
        kept += [index] if free else []
    return kept


@pytest.mark.parametrize(("threshold", "side"), [(0.3, 3), (0.4, 4), (0.6, 6), (0.7, 7), (0.9, 9)])
def test_an_overlap_of_exactly_the_threshold_stays(threshold: float, side: int) -> None:
    """In float64, float32's 0.3 is more than 0.3."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, side]])
    assert nms(boxes, torch.tensor([0.9, 0.8]), threshold)[1].tolist() == [0, 1]
    assert nms(boxes, torch.tensor([0.9, 0.8]), threshold - 1e-3)[1].tolist() == [0]


CORNERS = st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=12)


@settings(max_examples=300)
@given(
    corners=CORNERS,
    scale=st.sampled_from([1.0, 0.1, 33.3, 1e4]),
    threshold=st.integers(0, 20).map(lambda twentieths: twentieths / 20),
    offset=st.sampled_from([0, 1]),
    dice=st.randoms(use_true_random=False),
)
def test_nms_keeps_what_mmcvs_kernel_keeps(
    corners: list, scale: float, threshold: float, offset: int, dice: Any
) -> None:
    """Boxes on a grid overlap by exactly 0.3, 0.4, 0.6 and the like."""
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners], np.float32).reshape(
        -1, 4
    )
    boxes *= np.float32(scale)
    order = list(range(len(boxes)))
    dice.shuffle(order)
    scores = torch.zeros(len(boxes))
    scores[order] = torch.linspace(1, 0.1, len(boxes))
    with np.errstate(invalid="ignore"):
        expected = _nms_in_float32(boxes, order, threshold, offset)
    assert nms(torch.from_numpy(boxes), scores, threshold, offset=offset)[1].tolist() == expected


@pytest.mark.parametrize("suppress", [nms, soft_nms])
@pytest.mark.parametrize("box", [[5.0, 0, 4, 9], [0, 9, 4, 8]])
def test_inverted_boxes_are_named(suppress: Callable, box: list[float]) -> None:
    with pytest.raises(InputError, match=r"1 of 4 boxes end before they begin, the first") as caught:
        suppress(torch.cat([BOXES, torch.tensor([box])]), torch.rand(4), 0.5)
    assert caught.value.record == 3 and caught.value.mend


def test_batched_nms_equals_torchvision() -> None:
    start = torch.rand(60, 2) * 50
    boxes, scores, groups = torch.cat([start, start + 20], 1), torch.rand(60), torch.randint(0, 3, (60,))
    kept = batched_nms(boxes, scores, groups, dict(type="nms", iou_threshold=0.5))[1]
    assert torch.equal(kept, torchvision.ops.batched_nms(boxes, scores, groups, 0.5))


@pytest.mark.parametrize(
    ("method", "decayed"), [("linear", 0.8 * 0.5), ("gaussian", 0.8 * math.exp(-(0.5**2) / 0.5)), ("naive", None)]
)
def test_soft_nms_decays_overlapping_scores(method: str, decayed: float | None) -> None:
    dets, kept = soft_nms(BOXES, SCORES, iou_threshold=0.3, sigma=0.5, min_score=1e-3, method=method)
    expected = [0.9, 0.7] + ([decayed] if decayed else [])
    assert kept.tolist() == [2, 0, 1][: len(expected)]
    assert dets[:, 4].tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(dets[:, :4], BOXES[kept])


def test_soft_nms_drops_scores_below_the_minimum() -> None:
    assert soft_nms(BOXES, SCORES, iou_threshold=0.3, min_score=0.5, method="linear")[1].tolist() == [2, 0]


def _soft_nms_box_by_box(boxes: np.ndarray, scores: np.ndarray, sigma: float, prune: float) -> list[tuple]:
    """The loop of arXiv:1704.04503, gaussian, for one class: (index, decayed score), in the order of the choice."""
    rest, chosen = dict(enumerate(scores.tolist())), []
    while rest:
        best = max(rest, key=lambda index: (rest[index], -index))
        chosen.append((best, rest.pop(best)))
        for index in [*rest]:
            sides = np.minimum(boxes[best, 2:], boxes[index, 2:]) - np.maximum(boxes[best, :2], boxes[index, :2])
            inter = np.prod(sides.clip(0))
            areas = [np.prod(boxes[row, 2:] - boxes[row, :2]) for row in (best, index)]
            overlap = inter / (sum(areas) - inter) if inter > 0 else 0.0
            rest[index] *= math.exp(-(overlap**2) / sigma)
            if rest[index] < prune:
                del rest[index]
    return chosen


@settings(max_examples=150)
@given(
    corners=CORNERS,
    limit=st.integers(1, 15),
    dice=st.randoms(use_true_random=False),
    peak=st.sampled_from([1, 12]),
)
def test_soft_nms_of_all_classes_equals_the_loop_over_each(corners: list, limit: int, dice: Any, peak: int) -> None:
    """Classes that end early, because nothing of theirs can be among the best any more, change no result."""
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]).reshape(-1, 4)
    scores = np.linspace(0.05, 1, len(corners)) ** peak
    dice.shuffle(scores)
    classes = np.array([dice.randrange(3) for _ in corners], np.int64)
    expected = []
    for one in range(3):
        rows = np.flatnonzero(classes == one)
        expected += [
            (rows[index], score) for index, score in _soft_nms_box_by_box(boxes[rows], scores[rows], 0.5, 0.01)
        ]
    expected = sorted(expected, key=lambda pair: -pair[1])[:limit]
    arrays = (torch.from_numpy(array) for array in (boxes.astype(float), scores, classes))
    kept, decayed = soft_nms_by_class(*arrays, limit, sigma=0.5, min_score=0.01, method="gaussian")
    assert decayed.tolist() == pytest.approx([score for _, score in expected], rel=1e-9)
    assert kept.tolist() == [index for index, _ in expected]


def test_soft_nms_takes_no_boxes() -> None:
    assert len(soft_nms(torch.zeros(0, 4), torch.zeros(0), 0.3)[1]) == 0


def test_roi_align_of_a_ramp_is_the_centre_of_each_bin() -> None:
    """f(x, y) = x is linear, so the mean of a bin is its centre, less the half pixel of ``aligned``."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    rois = torch.tensor([[0.0, 8, 8, 24, 24]])
    out = RoIAlign(output_size=2, spatial_scale=0.5, sampling_ratio=0, aligned=True)(ramp, rois)
    assert out[0, 0, 0].tolist() == pytest.approx([6 - 0.5, 10 - 0.5])


def test_roi_align_gradient_equals_finite_differences() -> None:
    features = torch.rand(2, 2, 6, 6, dtype=torch.double, requires_grad=True)
    rois = torch.tensor([[0, 0.5, 1, 5, 4.5], [1, 2, 0, 5.5, 5]], dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: RoIAlign(3)(x, rois), features)


def test_roi_align_equals_torchvision_in_half_precision_too() -> None:
    features, rois = torch.rand(1, 2, 8, 8), torch.tensor([[0.0, 1, 1, 7, 6]])
    expected = torchvision.ops.roi_align(features, rois, 3, 1.0, 0, True)
    assert torch.equal(RoIAlign(3)(features, rois), expected)
    assert RoIAlign(3)(features.bfloat16(), rois).float() == pytest.approx(expected, abs=0.02)


def test_other_operators_import_and_explain_themselves_when_called() -> None:
    with pytest.raises(UnsupportedOperator, match="nms_rotated.*compiled mmcv"):
        nms_rotated(torch.rand(2, 5), torch.rand(2), 0.5)
    with pytest.raises(UnsupportedOperator, match="max"):
        RoIAlign(2, pool_mode="max")(torch.rand(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]]))


def test_a_compiled_mmcv_is_left_alone(tmp_path: Path) -> None:
    """A module of that name that Python finds by itself comes first."""
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv/__init__.py").touch()
    (tmp_path / "mmcv/_ext.py").write_text("compiled = True")
    program = "import regionclip, mmcv._ext; print(mmcv._ext.compiled)"
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
