"""PairsDataset: small captioned images held in memory, for training the demo's teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from regionclip.data.captions import decode_image, open_captioned_images
from regionclip.data.datasets.stream import ShuffledStream
from regionclip.errors import InputError

MAX_SHIFT = 4
"""Pixels that images are moved by at most, the border repeated."""


class PairsDataset(Dataset):
    """Captioned images of one size, read by stream positions (see `ShuffledStream`).

    Args:
        path: Folder of WebDataset shards.
        tokenizer: Maps a list of B strings to int64 (B, L).
        seed: Seed of the order, of the shifts and flips.
    """

    def __init__(self, path: str | Path, tokenizer: Callable[[list[str]], torch.Tensor], seed: int) -> None:
        images, captions = [], []
        for record in open_captioned_images(path):
            images.append(np.asarray(decode_image(record.image)))
            captions.append(record.captions[0])
            if images[-1].shape != images[0].shape:
                problem = f"images differ in size ({images[-1].shape[:2]} beside {images[0].shape[:2]})"
                raise InputError(problem, file=path, record=record.key, mend="resize them alike")
        if not images:
            raise InputError("no captioned image", file=path, mend="run `dvc repro data`")
        self.images, self.captions = torch.from_numpy(np.stack(images)), captions
        self.tokens = tokenizer(captions)
        self.stream = ShuffledStream(len(images), seed)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return ``inputs`` uint8 (3, H, W) RGB and ``tokens`` int64 (L,)."""
        epoch, index = self.stream.locate(position)
        rng = self.stream.rng(epoch, index)
        image = self.images[index].permute(2, 0, 1)
        if rng.random() < 0.5:
            image = image.flip(-1)
        top, left = rng.integers(0, 2 * MAX_SHIFT + 1, size=2)
        height, width = image.shape[-2:]
        padded = torch.nn.functional.pad(image[None].float(), [MAX_SHIFT] * 4, mode="replicate")[0].byte()
        return {"inputs": padded[:, top : top + height, left : left + width], "tokens": self.tokens[index]}
