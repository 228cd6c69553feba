"""Concept embeddings from the official text encoder: run ``text``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from benchmarks.parity.golden_folder import Arrays, GoldenFolder
from regionclip.checkpoints.clip_folder import build_clip
from regionclip.checkpoints.loading import load_strictly
from regionclip.errors import InputError
from regionclip.text.prompts import REGIONCLIP_81, embed_names, fill


class OfficialTokenizer(SimpleTokenizer):
    """open_clip's tokenizer, but a text that is too long loses its end token too (official ``pre_tokenize``)."""

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Map B texts to int64 (B, L), padded with 0."""
        length = context_length or self.context_length
        tokens = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(tokens, texts, strict=True):
            ids = [self.sot_token_id, *self.encode(text), self.eot_token_id][:length]
            row[: len(ids)] = torch.tensor(ids)
        return tokens


@torch.no_grad()
def run(golden: GoldenFolder, concepts: Sequence[str] | None = None) -> Arrays:
    """Return every documented output of ``text``.

    Args:
        golden: The folder; it names the concepts in ``inputs.npz`` or in ``text.npz``, as ``concepts``.
        concepts: Concepts to embed instead.

    Raises:
        InputError: Nothing names the concepts.
    """
    names = list(concepts) if concepts else _concepts(golden)
    checkpoint = golden.checkpoint("text")
    model = build_clip(checkpoint.clip_config())
    load_strictly(model, checkpoint.clip(), golden.path)
    tokenizer = OfficialTokenizer()
    tokens = torch.stack([tokenizer([fill(template, name) for template in REGIONCLIP_81]) for name in names])
    return {
        "concepts": np.array(names),
        "tokens": tokens.numpy().astype(np.int32),
        "per_prompt_first": model.eval().encode_text(tokens[0]).numpy(),
        "emb": embed_names(model, tokenizer, names, REGIONCLIP_81).numpy(),
    }


def _concepts(golden: GoldenFolder) -> list[str]:
    for arrays in (golden.inputs, golden.reference("text") or {}):
        if "concepts" in arrays:
            return [str(name) for name in arrays["concepts"]]
    raise InputError("nothing names the concepts", file=golden.path, key="concepts", mend="give --concepts FILE")
