"""Names to embeddings: the prompt ensemble through a CLIP text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from regionclip.errors import InputError
from regionclip.text.prompts import fill


@torch.no_grad()
def embed_names(
    clip_model: nn.Module,
    tokenizer: Callable[[list[str]], Tensor],
    names: Sequence[str],
    templates: Sequence[str],
    batch_size: int = 256,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Embed names as the plain mean over their prompts, with no normalisation before or after.

    Official ``extract_concept_features.py`` and ``clip_prompt_utils.py``. OpenAI's own recipe normalises each prompt
    first; this one does not.

    Args:
        clip_model: An open_clip model, in evaluation mode, on ``device``.
        tokenizer: Its tokenizer: B texts to int64 (B, L).
        names: K names, cleaned (see `regionclip.text.prompts`).
        templates: T templates with ``{}``.
        batch_size: Prompts that go through the encoder at a time.
        device: Where the model is.

    Returns:
        (K, D) float32 on the CPU.

    Raises:
        InputError: No name or no template is given, or an embedding is not finite.
    """
    if not names or not templates:
        raise InputError("nothing to embed", key="templates" if names else "names", mend="give at least one")
    prompts = [fill(template, name) for name in names for template in templates]
    owners = torch.arange(len(names), device=device).repeat_interleave(len(templates))
    total: Tensor | None = None
    for start in range(0, len(prompts), batch_size):
        tokens = tokenizer(prompts[start : start + batch_size]).to(device)
        features = clip_model.encode_text(tokens, normalize=False).double()
        if total is None:
            total = features.new_zeros(len(names), features.shape[1])
        # Sums in float64, so the batch size does not show in the mean.
        total.index_add_(0, owners[start : start + batch_size], features)
    assert total is not None
    means = (total / len(templates)).float().cpu()
    bad = ~means.isfinite().all(dim=1)
    if bad.any():
        name = names[int(bad.nonzero()[0])]
        raise InputError("the text encoder gives a number that is not finite", record=name, mend="mend the weights")
    return means
