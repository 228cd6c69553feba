"""The losses of pretraining and fine-tuning against values computed by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.losses import CrossEntropyLoss
from mmdet.registry import MODELS

from regionclip.models.losses import (
    ConceptClassificationLoss,
    ConceptDistillationLoss,
    CropDistillationLoss,
    FocalScaledCrossEntropy,
    ImageTextContrastiveLoss,
    RegionConceptContrastiveLoss,
)

# Unit axes: the cosine of a feature with a concept is 1 or 0. Norms differ, and must not matter.
BANK = torch.tensor([[2.0, 0, 0], [0, 0.5, 0], [0, 0, 1]])
FEATURES = torch.tensor([[3.0, 0, 0], [0, 0.1, 0], [5, 0, 0]])
ALL, EACH = torch.ones(3, dtype=torch.bool), torch.arange(3).expand(3, 3)
E = math.e  # exp(cosine 1 / temperature 1)


def test_contrast_sums_the_probabilities_of_equal_labels() -> None:
    """Columns are concepts 0, 1, 0. Regions 0 and 2: P = 2e / (2e + 1). Region 1: P = e / (e + 2)."""
    loss = RegionConceptContrastiveLoss(temperature=1.0)(FEATURES, BANK, torch.tensor([0, 1, 0]), ALL)
    expected = -(2 * math.log(2 * E / (2 * E + 1)) + math.log(E / (E + 2))) / 3
    assert float(loss) == pytest.approx(expected)


def test_contrast_of_one_region_is_zero() -> None:
    assert float(RegionConceptContrastiveLoss()(FEATURES[:1], BANK, torch.tensor([2]), ALL[:1])) == 0


def test_distillation_is_the_mean_kl_divergence() -> None:
    """Student of region 0: (e, 1, 1) / (e + 2). The teacher of region 1 equals the student: no loss."""
    teacher = torch.tensor([[0.5, 0.5, 0], [1 / (E + 2), E / (E + 2), 1 / (E + 2)]])
    loss = ConceptDistillationLoss(temperature=1.0)(FEATURES[:2], BANK, EACH[:2], teacher, ALL[:2])
    divergence = 0.5 * math.log(0.5 * (E + 2) / E) + 0.5 * math.log(0.5 * (E + 2))
    assert float(loss) == pytest.approx(divergence / 2, abs=1e-6)


def test_distillation_gradient_is_student_minus_teacher() -> None:
    features = torch.eye(3)[:1].requires_grad_()
    teacher = torch.tensor([[0.2, 0.3, 0.5]])
    ConceptDistillationLoss(temperature=1.0)(features, torch.eye(3), EACH[:1], teacher, ALL[:1]).backward()
    # Normalisation projects the gradient off the feature's own direction, axis 0.
    assert features.grad[0].tolist() == pytest.approx([0, 1 / (E + 2) - 0.3, 1 / (E + 2) - 0.5], abs=1e-6)


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**31))
def test_a_region_that_is_not_kept_changes_neither_loss_nor_gradient(regions: int, k: int, seed: int) -> None:
    """Equal to the losses of the kept ones alone, the teacher's top k spread over all concepts."""
    dice = torch.Generator().manual_seed(seed)
    features, bank = torch.randn(regions, 4, generator=dice), torch.randn(6, 4, generator=dice)
    index = torch.rand(regions, 6, generator=dice).argsort(dim=1)[:, :k]
    probs = torch.rand(regions, k, generator=dice) / k
    keep = torch.rand(regions, generator=dice) > 0.4
    keep[0] = True
    teacher = torch.zeros(regions, 6).scatter(1, index, probs)[keep]

    def plain(kept: torch.Tensor) -> list[torch.Tensor]:
        student = F.normalize(kept, dim=1) @ F.normalize(bank, dim=1).T
        distillation = F.kl_div((student / 0.5).log_softmax(1), teacher, reduction="batchmean")
        labels = index[keep, 0]
        share = (student[:, labels] / 0.5).softmax(dim=1)
        own = (share * (labels[:, None] == labels)).sum(dim=1)
        return [-own.log().mean(), distillation]

    given_all = features.clone().requires_grad_()
    losses = [
        RegionConceptContrastiveLoss(0.5)(given_all, bank, index[:, 0], keep),
        ConceptDistillationLoss(0.5)(given_all, bank, index, probs, keep),
    ]
    alone = features.clone().requires_grad_()
    for loss, wanted in zip(losses, plain(alone[keep]), strict=True):
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
        got, expected = (
            torch.autograd.grad(loss, given_all)[0],
            torch.autograd.grad(wanted, alone, retain_graph=True)[0],
        )
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_image_text_contrast_is_symmetric_cross_entropy() -> None:
    """Cosines [[1, 0], [1, 0]]: rows give CE of e/(e+1) and 1/(e+1); columns give 1/2 each."""
    images, texts = torch.tensor([[1.0, 0], [2.0, 0]]), torch.tensor([[3.0, 0], [0, 1.0]])
    rows = -(math.log(E / (E + 1)) + math.log(1 / (E + 1))) / 2
    assert float(ImageTextContrastiveLoss(temperature=1.0)(images, texts)) == pytest.approx((rows + math.log(2)) / 2)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RegionConceptContrastiveLoss", (FEATURES, BANK, torch.tensor([0, 1, 2]), ALL)),
        ("ConceptDistillationLoss", (FEATURES, BANK, torch.full((3, 1), 2), torch.ones(3, 1), ALL)),
        ("ImageTextContrastiveLoss", (FEATURES, BANK)),
    ],
)
def test_modules_are_registered_and_weighted(name: str, arguments: tuple) -> None:
    one = MODELS.build(dict(type=name))(*arguments)
    assert float(one) > 0.1
    assert float(MODELS.build(dict(type=name, loss_weight=0.5))(*arguments)) == pytest.approx(float(one) / 2)
    warm = MODELS.build(dict(type=name, temperature=1.0))(*arguments)
    assert float(warm) < float(one)


# A program of its own: a fork of a process whose OpenMP threads have run waits for them for ever.
_ONE_PROCESS = """
import sys
import torch
from regionclip.models.losses import ImageTextContrastiveLoss

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
images, texts = torch.load(f"{folder}/batch.pt", weights_only=True)
mine = slice(2 * rank, 2 * rank + 2)
local = images[mine].clone().requires_grad_()
loss = ImageTextContrastiveLoss()(local, texts[mine])
loss.backward()
torch.save((loss.detach(), local.grad), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_give_the_loss_and_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    """DistributedDataParallel averages over processes; the mean of the gradients is that of the global loss."""
    images, texts = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
    whole = ImageTextContrastiveLoss()(images, texts)
    whole.backward()
    torch.save((images.detach(), texts), tmp_path / "batch.pt")
    command = [sys.executable, "-c", _ONE_PROCESS]
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(float(loss) == pytest.approx(float(whole), rel=1e-5) for loss, _ in parts)
    gradient = torch.cat([grad for _, grad in parts]) / 2
    assert torch.allclose(gradient, images.grad, rtol=1e-4, atol=1e-5)


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


def test_crop_distillation_is_the_mean_of_one_less_cosine() -> None:
    """Cosines 1, 0 and 0.6, whatever the norms."""
    features = torch.tensor([[2.0, 0], [0, 3], [0.5, 0]], requires_grad=True)
    crops = torch.tensor([[1.0, 0], [5, 0], [3, 4]])
    loss = CropDistillationLoss(loss_weight=2.0)(features, crops)
    assert float(loss) == pytest.approx(2 * (0 + 1 + 0.4) / 3)
    loss.backward()
    # Of the second: -2 / 3 x (crop - cosine x feature) / norm.
    torch.testing.assert_close(features.grad[1], torch.tensor([-2 / 9, 0.0]))


def test_classification_sums_over_the_concepts_and_takes_the_mean_of_the_kept_regions() -> None:
    """Cosines are 1 with one concept and 0 with the other two, the temperature is 1; regions 0 and 1 are kept."""
    loss = ConceptClassificationLoss(temperature=1.0)(FEATURES, BANK, torch.tensor([0, 2, 1]), ALL & (EACH[0] < 2))
    right = math.log(1 + 1 / E) + 2 * math.log(2)
    # Region 1 is of concept 1 and labelled 2.
    wrong = math.log(1 + E) + 2 * math.log(2)
    assert float(loss) == pytest.approx((right + wrong) / 2)


def test_classification_takes_the_concepts_that_are_there_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two, those of the kept regions and no other."""
    monkeypatch.setattr(ConceptClassificationLoss, "CONCEPTS", 2)
    labels = torch.tensor([0, 1, 0])
    losses = [float(ConceptClassificationLoss(temperature=1.0)(FEATURES, BANK, labels, ALL)) for _ in range(5)]
    assert losses == pytest.approx([math.log(1 + 1 / E) + math.log(2)] * 5)
