"""embed_names: a plain mean of un-normalised prompt features, whatever the batch size."""

from __future__ import annotations

import open_clip
import pytest
import torch

from regionclip.errors import InputError
from regionclip.text import prompts
from regionclip.text.prompts import embed_names

TEMPLATES = ("{}.", "a photo of a {}.", "the {} in a video game.")
NAMES = ["cat", "stop sign", "monitor, tv+screen"]
PROMPTS = [
    ["cat.", "a photo of a cat.", "the cat in a video game."],
    ["stop sign.", "a photo of a stop sign.", "the stop sign in a video game."],
    ["monitor tv screen.", "a photo of a monitor tv screen.", "the monitor tv screen in a video game."],
]


@pytest.fixture(scope="module")
def clip() -> open_clip.CLIP:
    torch.manual_seed(0)
    vision = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(embed_dim=6, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()


@pytest.fixture(scope="module")
def tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=16)


def test_each_row_is_the_mean_over_its_prompts(clip: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer) -> None:
    rows = embed_names(clip, tokenizer, NAMES, TEMPLATES)
    with torch.no_grad():
        wanted = torch.stack([clip.encode_text(tokenizer(texts), normalize=False).mean(0) for texts in PROMPTS])
    assert rows.shape == (3, 6) and rows.dtype == torch.float32
    torch.testing.assert_close(rows, wanted, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(rows.norm(dim=1), torch.ones(3), atol=0.05)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 9])
def test_the_batch_size_does_not_change_the_result(
    clip: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embed_names(clip, tokenizer, NAMES, TEMPLATES)
    monkeypatch.setattr(prompts, "_BATCH", batch_size)
    torch.testing.assert_close(embed_names(clip, tokenizer, NAMES, TEMPLATES), whole, rtol=1e-5, atol=1e-6)


def test_nothing_to_embed_is_refused(clip: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer) -> None:
    with pytest.raises(InputError, match="key 'names': nothing to embed"):
        embed_names(clip, tokenizer, [], TEMPLATES)
    with pytest.raises(InputError, match="key 'templates': nothing to embed"):
        embed_names(clip, tokenizer, NAMES, [])


def test_numbers_that_are_not_finite_are_refused(tokenizer: open_clip.SimpleTokenizer) -> None:
    class Broken(torch.nn.Module):
        def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
            return torch.full((len(tokens), 2), float("inf"))

    with pytest.raises(InputError, match="record cat.*not finite"):
        embed_names(Broken(), tokenizer, NAMES, TEMPLATES)
