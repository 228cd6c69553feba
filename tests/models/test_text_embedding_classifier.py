"""The classifier: cosine over temperature, background 0 and last, a vocabulary that can change."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.registry import MODELS

from regionclip.errors import InputError
from regionclip.models.text_embedding_classifier import TextEmbeddingClassifier


def _classifier() -> TextEmbeddingClassifier:
    classifier = MODELS.build(dict(type="TextEmbeddingClassifier", in_features=2, out_features=3, temperature=0.1))
    classifier.set_vocabulary(torch.tensor([[2.0, 0.0], [3.0, 4.0]]))
    return classifier


def test_logits_are_cosines_over_temperature_with_background_zero_and_last() -> None:
    logits = _classifier()(torch.tensor([[0.0, 7.0], [1.0, 0.0], [0.0, 0.0]]))
    assert logits.tolist() == [pytest.approx([0, 8, 0]), pytest.approx([10, 6, 0]), [0, 0, 0]]


def test_another_vocabulary_of_another_size() -> None:
    classifier = _classifier()
    classifier.set_vocabulary(torch.eye(2).repeat(5, 1))
    assert classifier(torch.ones(4, 2)).shape == (4, 11)


def test_several_texts_of_a_class_and_texts_of_background() -> None:
    """By hand: the best of a class's rows; background is log(1 + exp(its text's logit))."""
    classifier = TextEmbeddingClassifier(2, 3, temperature=1.0)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [-1.0, 0.0]])
    classifier.set_vocabulary(rows, torch.tensor([0, 1, 0, -1]))
    found = classifier(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
    wanted = [[0.8, 1.0, math.log(1 + 1)], [1.0, 0.0, math.log(1 + math.exp(-1))]]
    assert found.tolist() == [pytest.approx(row, abs=1e-6) for row in wanted]
    classifier.set_vocabulary(rows)
    assert classifier(torch.ones(1, 2)).shape == (1, 5)


def test_nothing_trains_and_checkpoints_carry_the_vocabulary() -> None:
    classifier = _classifier()
    assert list(classifier.parameters()) == []
    assert classifier.state_dict()["embeddings"].tolist() == [[2, 0], [3, 4]]
    loaded = TextEmbeddingClassifier(2, 3)
    loaded.load_state_dict(classifier.state_dict())
    assert loaded(torch.tensor([[1.0, 0.0]]))[0].tolist() == pytest.approx([100, 60, 0])


def test_mixed_precision_keeps_float32_logits() -> None:
    regions = torch.randn(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = _classifier()(regions.bfloat16())
    assert logits.dtype == torch.float32
    assert torch.equal(logits, _classifier()(regions.bfloat16().float()))


def test_refuses_to_classify_without_a_vocabulary() -> None:
    with pytest.raises(InputError, match="set_vocabulary"):
        TextEmbeddingClassifier(2, 3)(torch.ones(1, 2))


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.ones(4, 3), r"shape \(4, 3\).*width 2"),
        (torch.ones(2), r"shape \(2,\)"),
        (torch.ones(0, 2), r"shape \(0, 2\)"),
        (torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "record 1"),
        (torch.tensor([[torch.nan, 1.0]]), "record 0"),
    ],
)
def test_refuses_a_bad_vocabulary_and_keeps_the_old(embeddings: torch.Tensor, message: str) -> None:
    classifier = _classifier()
    with pytest.raises(InputError, match=message):
        classifier.set_vocabulary(embeddings)
    assert classifier.embeddings.tolist() == [[2, 0], [3, 4]]
