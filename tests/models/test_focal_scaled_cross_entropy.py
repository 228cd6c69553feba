"""The fine-tuning classification losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss
from mmdet.registry import MODELS

from regionclip.models.focal_scaled_cross_entropy import FocalScaledCrossEntropy

# Two classes and background; softmax of ln(p) is p. Region 0 is class 0 with p 0.5; region 1 is background with p 0.75.
LOGITS = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]))
LABELS = torch.tensor([0, 2])
FOREGROUND, BACKGROUND = math.log(2), math.log(4 / 3)


def test_coco_loss_by_hand() -> None:
    """Mean over regions of w (1 - p)^0.5 CE, w = 1 and 0.2."""
    loss = MODELS.build(dict(type="FocalScaledCrossEntropy"))
    expected = (math.sqrt(0.5) * FOREGROUND + 0.2 * math.sqrt(0.25) * BACKGROUND) / 2
    assert float(loss(LOGITS, LABELS)) == pytest.approx(expected)


def test_lvis_loss_by_hand_and_as_pytorch_weighs() -> None:
    """Sum of w CE over the sum of w, w = 1 and 0.8."""
    loss = FocalScaledCrossEntropy(gamma=0, background_weight=0.8, average="weights")(LOGITS, LABELS)
    assert float(loss) == pytest.approx((FOREGROUND + 0.8 * BACKGROUND) / 1.8)
    assert float(loss) == pytest.approx(float(F.cross_entropy(LOGITS, LABELS, torch.tensor([1, 1, 0.8]))))


def test_mmdetections_own_loss_is_not_the_lvis_loss() -> None:
    """MMDetection divides by the number of regions: the reason why ``average='weights'`` exists."""
    stock = CrossEntropyLoss(class_weight=[1, 1, 0.8])(LOGITS, LABELS, torch.ones(2), avg_factor=2)
    assert float(stock) == pytest.approx((FOREGROUND + 0.8 * BACKGROUND) / 2)


def test_called_as_bbox_head_calls_it() -> None:
    """A region of weight 0 (padding of the sampler) does not count, and avg_factor is the number of the others."""
    loss = FocalScaledCrossEntropy(gamma=0, background_weight=0.5, loss_weight=2)
    value = loss(LOGITS, LABELS, torch.tensor([0.0, 1.0]), avg_factor=1.0, reduction_override=None)
    assert float(value) == pytest.approx(2 * 0.5 * BACKGROUND)
    single = loss(LOGITS, LABELS, reduction_override="none")
    assert single.tolist() == pytest.approx([2 * FOREGROUND, BACKGROUND])
    assert float(loss(LOGITS, LABELS, reduction_override="sum")) == pytest.approx(2 * FOREGROUND + BACKGROUND)


def test_gradient_is_finite_where_the_model_is_certain() -> None:
    """With p = 1 in float32 the slope of (1 - p)^0.5 is infinite and CE is 0; the gradient must be 0, not NaN."""
    logits = torch.tensor([[100.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    loss = FocalScaledCrossEntropy()(logits, torch.tensor([0, 1]))
    loss.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0].abs().max() == 0
    assert logits.grad[1].abs().max() > 0


def test_gradient_is_that_of_the_formula() -> None:
    logits = torch.randn(6, 4, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 3, 0])
    log_p = logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)
    weight = torch.where(labels == 3, 0.2, 1.0)
    plain = (weight * (1 - log_p.exp()) ** 0.5 * -log_p).mean()
    (expected,) = torch.autograd.grad(plain, logits)
    (actual,) = torch.autograd.grad(FocalScaledCrossEntropy()(logits, labels), logits)
    assert torch.allclose(actual, expected, atol=1e-6)
