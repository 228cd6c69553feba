"""Match regions to concepts: what the teacher thinks each region shows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from regionclip.errors import InputError


def cosine_logits(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Return ``normalise(left) @ normalise(right).T / temperature``, (N, K) float32, also under mixed precision.

    ``left`` (N, D) and ``right`` (K, D) have any norm; a row of zeros has cosine 0 with everything. A temperature of
    0.01 makes logits up to 100, where half precision resolves only 0.06.
    """
    with torch.autocast(left.device.type, enabled=False):
        return F.normalize(left.float(), dim=-1) @ F.normalize(right.float(), dim=-1).T / temperature


class ConceptMatcher:
    """Finds the likeliest concepts of teacher features (official ``get_psuedo_concept_labels``).

    Args:
        bank: Concept embeddings (C, D), any norm.
        temperature: Divides the cosines; 0.01 in the paper.
    """

    def __init__(self, bank: Tensor, temperature: float = 0.01) -> None:
        self.bank, self.temperature = F.normalize(bank.float(), dim=-1), temperature

    @torch.no_grad()
    def __call__(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Match teacher features (N, D), any norm, with ``k`` concepts, or with all C if there are fewer.

        Returns:
            Indices (N, k) int32, best first, and their probabilities (N, k) float32. These are of the softmax over all
            C concepts, so they sum to at most 1.

        Raises:
            InputError: The features have another width than the bank.
        """
        got, wanted = features.shape[-1], self.bank.shape[1]
        if got != wanted:
            problem = f"teacher features of width {got} do not fit concepts of width {wanted}"
            mend = "build the concept bank with the teacher's text encoder"
            raise InputError(problem, key="embeddings", mend=mend)
        # Once, not for every picture.
        self.bank = self.bank.to(features.device)
        probs = cosine_logits(features, self.bank, self.temperature).softmax(dim=-1)
        probs, indices = probs.topk(min(k, len(self.bank)), dim=1)
        return indices.to(torch.int32), probs
