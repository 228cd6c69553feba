"""Match regions to concepts: what the teacher thinks each region shows, and which regions to believe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from regionclip.errors import InputError


def cosine_logits(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Return ``normalise(left) @ normalise(right).T / temperature`` in float32, also under mixed precision.

    A temperature of 0.01 makes logits up to 100, where half precision resolves only 0.06.

    Args:
        left: (N, D), any norm.
        right: (K, D), any norm. A row of zeros has cosine 0 with everything.
        temperature: Above 0.

    Returns:
        (N, K) float32.
    """
    with torch.autocast(left.device.type, enabled=False):
        return F.normalize(left.float(), dim=-1) @ F.normalize(right.float(), dim=-1).T / temperature


@dataclass(frozen=True)
class ConceptMatch:
    """The teacher's verdict on N regions over C concepts.

    Attributes:
        probs: (N, C) float32, softmax over the concepts.
        labels: (N,) int64, the likeliest concept.
        scores: (N,) float32, its probability.
        keep: (N,) bool, whether the region passes the threshold (see :func:`confident`).
    """

    probs: Tensor
    labels: Tensor
    scores: Tensor
    keep: Tensor

    def top_k(self, k: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return the ``k`` likeliest concepts, best first.

        The probabilities are those of the softmax over all C concepts, so they sum to at most 1.

        Args:
            k: How many; all C if there are fewer.
            dtype: Of the probabilities, float32 or float16.

        Returns:
            Indices (N, k) int32 and probabilities (N, k).
        """
        probs, indices = self.probs.topk(min(k, self.probs.shape[1]), dim=1)
        return indices.to(torch.int32), probs.to(dtype)


class ConceptMatcher:
    """Scores teacher features against a concept bank (official ``get_psuedo_concept_labels``).

    Args:
        bank: Concept embeddings (C, D), any norm.
        temperature: Divides the cosines; 0.01 in the paper.
        threshold: Least probability of a region that is kept; 0.1 in the paper.
    """

    def __init__(self, bank: Tensor, temperature: float = 0.01, threshold: float = 0.1) -> None:
        self.bank, self.temperature, self.threshold = bank, temperature, threshold

    @torch.no_grad()
    def __call__(self, features: Tensor) -> ConceptMatch:
        """Match teacher features (N, D), any norm.

        Raises:
            InputError: The features have another width than the bank.
        """
        if features.shape[-1] != self.bank.shape[1]:
            raise InputError(
                f"teacher features of width {features.shape[-1]} do not fit concepts of width {self.bank.shape[1]}",
                key="embeddings",
                mend="build the concept bank with the teacher's text encoder",
            )
        probs = cosine_logits(features, self.bank.to(features.device), self.temperature).softmax(dim=-1)
        scores, labels = probs.max(dim=-1)
        return ConceptMatch(probs, labels, scores, confident(scores, self.threshold))


def confident(scores: Tensor, threshold: float) -> Tensor:
    """Return which regions score above ``threshold``: (N,) bool; all of them if none does, as the official code."""
    keep = scores > threshold
    return keep if keep.any() else torch.ones_like(keep)


def dense(indices: Tensor, probs: Tensor, num_concepts: int) -> Tensor:
    """Spread stored top-k probabilities over all concepts.

    Args:
        indices: (N, k) concept indices, each at most once a row.
        probs: (N, k) their probabilities.
        num_concepts: C.

    Returns:
        (N, C) float32, 0 where nothing was stored.

    Raises:
        InputError: An index is outside 0..C-1.
    """
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < num_concepts:
        raise InputError(
            f"concept index {int(indices.min())}..{int(indices.max())} is outside a bank of {num_concepts} concepts",
            key="concept_index",
            mend="use the bank that the pseudo labels were made with",
        )
    target = torch.zeros(len(indices), num_concepts, device=indices.device)
    return target.scatter_(1, indices.long(), probs.float())
