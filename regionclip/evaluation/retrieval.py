"""Image-text retrieval: recall at 1, 5 and 10 in both directions, with several captions an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import torch
from PIL.Image import Image
from rich.progress import track
from torch import Tensor, nn

from regionclip.data.captions import CaptionedImages, decode_image
from regionclip.errors import InputError

RANKS = (1, 5, 10)
CAPTIONS = 5
"""The captions used of each image, the first ones; COCO has up to seven, papers use five."""


def retrieval_recall(
    image_features: Tensor, text_features: Tensor, owners: Tensor, *, chunk: int = 1000
) -> dict[str, float]:
    """Measure retrieval among embeddings.

    From an image it is a hit if any of its captions is among the k nearest captions; from a caption, if its image is
    among the k nearest images. A wrong candidate that is as near as the right one counts as nearer, so that equal
    embeddings hit nothing.

    Args:
        image_features: (I, D), any norm, on the CPU.
        text_features: (T, D), likewise.
        owners: (T,) int64, the image of each caption; every image has at least one.
        chunk: Queries whose similarities are in memory at a time, each with all candidates.

    Returns:
        ``image_to_text_r{k}`` and ``text_to_image_r{k}`` for k = 1, 5, 10: fractions 0..1.

    Raises:
        InputError: A feature is not finite.
    """
    if not (image_features.isfinite().all() and text_features.isfinite().all()):
        raise InputError("a feature is not finite", mend="mend the weights")
    images, texts = (nn.functional.normalize(part.float(), dim=1) for part in (image_features, text_features))
    numbers = torch.arange(len(images))
    ranks = {
        "image_to_text": _ranks(images, numbers, texts, owners, chunk),
        "text_to_image": _ranks(texts, owners, images, numbers, chunk),
    }
    return {
        f"{direction}_r{most}": (rank < most).double().mean().item()
        for direction, rank in ranks.items()
        for most in RANKS
    }


@torch.no_grad()
def evaluate_retrieval(
    clip_model: nn.Module,
    tokenizer: Callable[[list[str]], Tensor],
    preprocess: Callable[[Image], Tensor],
    source: CaptionedImages,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Measure an open_clip model on captioned images.

    Args:
        clip_model: An open_clip model, in evaluation mode, on ``device``.
        tokenizer: Its tokenizer: B texts to int64 (B, L).
        preprocess: Its transform of one picture to (3, H, W).
        source: The captioned images: ``KarpathyCaptions`` (Flickr30K, COCO) or ``CocoCaptions`` (captions_val2017).
        batch_size: Pictures or captions at a time.
        device: Where the model is.

    Returns:
        What `retrieval_recall` returns; images, captions, captions_beyond_limit and skipped (counts, the last by
        reason); protocol (words).

    Raises:
        InputError: A picture cannot be decoded, there is none, or a feature is not finite.
    """
    images, found = [], []
    for batch in _batches(track(source.table(), description=f"Pictures of {source.path.name}"), batch_size):
        pictures = torch.stack([preprocess(decode_image(record.image)) for record in batch])
        images.append(clip_model.encode_image(pictures.to(device)).float().cpu())
        found += [record.captions for record in batch]
    if not found:
        raise InputError("there is no captioned image", file=source.path, mend="give a split that has images")
    used = [captions[:CAPTIONS] for captions in found]
    captions, owners = list(chain.from_iterable(used)), [owner for owner, texts in enumerate(used) for _ in texts]
    texts = [
        clip_model.encode_text(tokenizer(batch).to(device)).float().cpu() for batch in _batches(captions, batch_size)
    ]
    return {
        **retrieval_recall(torch.cat(images), torch.cat(texts), torch.tensor(owners)),
        "images": len(found),
        "captions": len(captions),
        "captions_beyond_limit": sum(map(len, found)) - len(captions),
        "skipped": dict(source.skipped),
        "protocol": f"image-text retrieval, zero-shot, {len(found)} images and {len(captions)} captions of "
        f"{source.path.name}, at most the first {CAPTIONS} of an image, as they are (no prompt); cosine "
        "similarity; from an image any of its captions is a hit",
    }


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _ranks(queries: Tensor, owners: Tensor, candidates: Tensor, candidate_owners: Tensor, chunk: int) -> Tensor:
    """How many wrong candidates are at least as near as the nearest right one, for each query."""
    ranks = []
    for start in range(0, len(queries), chunk):
        similarity = queries[start : start + chunk] @ candidates.T
        right = owners[start : start + chunk, None] == candidate_owners
        best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        ranks.append(((similarity >= best) & ~right).sum(dim=1))
    return torch.cat(ranks)
