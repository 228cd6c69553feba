"""Concept matching against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regionclip.errors import InputError
from regionclip.regions.matching import ConceptMatcher, cosine_logits

BANK = torch.tensor([[2.0, 0], [0, 0.5], [-1, 0]])


def test_cosine_logits_ignore_norms_and_zero_rows() -> None:
    logits = cosine_logits(torch.tensor([[3.0, 4.0], [0, 0]]), BANK, temperature=0.5)
    assert logits[0].tolist() == pytest.approx([1.2, 1.6, -1.2])
    assert logits[1].tolist() == [0, 0, 0]


def test_probabilities_best_first() -> None:
    indices, probs = ConceptMatcher(BANK, temperature=1.0)(torch.tensor([[5.0, 0], [1.0, 1.0]]), 3)
    e, s = math.e, math.sqrt(0.5)
    assert indices[0].tolist() == [0, 1, 2]
    assert probs[0].tolist() == pytest.approx([e / (e + 1 + 1 / e), 1 / (e + 1 + 1 / e), 1 / e / (e + 1 + 1 / e)])
    assert probs[1, 0].item() == pytest.approx(math.exp(s) / (2 * math.exp(s) + math.exp(-s)))


def test_refuses_features_of_another_width() -> None:
    with pytest.raises(InputError, match="width 3.*width 2"):
        ConceptMatcher(BANK)(torch.ones(1, 3), 1)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 15), st.integers(0, 2**31))
def test_the_top_k_are_those_of_all_concepts(regions: int, concepts: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    bank, features = torch.randn(concepts, 4, generator=generator), torch.randn(regions, 4, generator=generator)
    indices, probs = ConceptMatcher(bank)(features, k)
    _, all_probs = ConceptMatcher(bank)(features, concepts)
    assert indices.dtype == torch.int32 and probs.shape == indices.shape == (regions, min(k, concepts))
    assert torch.equal(probs, all_probs[:, :k])
    likeliest = cosine_logits(features, bank, 0.01).softmax(dim=1)
    torch.testing.assert_close(likeliest.gather(1, indices.long()), probs)
    torch.testing.assert_close(all_probs.sum(dim=1), torch.ones(regions))
