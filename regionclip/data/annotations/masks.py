"""Masks as COCO keeps them: compressed run lengths (RLE), written from arrays, checked when read, kept as bytes."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as checked_mask
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from regionclip.errors import InputError

Rle = dict[str, Any]

_MEND = "write the masks as pycocotools' RLE of the whole picture"


class Masks:
    """A growing list of masks, of which each may be none; in a few blocks of memory, as there may be millions."""

    def __init__(self) -> None:
        self._counts, self._ends, self._sizes = bytearray(), array("q", [0]), array("i")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, rle: Mapping[str, Any] | None) -> None:
        """Add a compressed RLE, its counts text or bytes, or None."""
        size, counts = ((0, 0), b"") if rle is None else (rle["size"], rle["counts"])
        self._counts += counts.encode("ascii") if isinstance(counts, str) else counts
        self._ends.append(len(self._counts))
        self._sizes.extend(map(int, size))

    def __getitem__(self, place: int) -> Rle | None:
        height, width = self._sizes[2 * place : 2 * place + 2]
        if not height * width:
            return None
        counts = self._counts[self._ends[place] : self._ends[place + 1]]
        return {"size": [height, width], "counts": counts.decode("ascii")}

    def there(self) -> NDArray[np.bool_]:
        """Return which masks are one, (N,)."""
        return np.array(self._sizes, np.int32).reshape(-1, 2).all(axis=1)


def encode_masks(masks: NDArray[np.bool_] | Sequence[Mapping[str, Any]]) -> list[Rle]:
    """Encode the masks of one image.

    Args:
        masks: (N, H, W) bool in original pixels; or N RLEs, their counts bytes or text.

    Returns:
        N dicts ``{"size": [H, W], "counts": text}``, which JSON can hold.
    """
    if isinstance(masks, np.ndarray):
        masks = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return [{"size": [int(side) for side in mask["size"]], "counts": _text(mask["counts"])} for mask in masks]


def checked_rle(value: Any, size: tuple[int, int] | None, where: Mapping[str, Any]) -> Rle:
    """Return ``value`` as an RLE with text counts.

    Args:
        value: What a detection holds under ``segmentation``.
        size: Height and width of its picture, None where the truth does not say.
        where: ``file`` and ``record`` for the error.

    Raises:
        InputError: It is no compressed RLE, cannot be decoded, or has another size than its picture.
    """
    where = {**where, "key": "segmentation"}
    if not isinstance(value, Mapping) or not isinstance(value.get("counts"), str | bytes):
        raise InputError("the mask is not a compressed RLE", **where, mend=_MEND)
    rle = {"size": [int(side) for side in value.get("size", ())], "counts": _text(value["counts"])}
    if len(rle["size"]) != 2 or (size is not None and rle["size"] != list(size)):
        raise InputError(f"the mask has size {rle['size']}, its picture {size}", **where, mend=_MEND)
    try:
        mask_area(rle)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the mask cannot be decoded ({error})", **where, mend=_MEND) from None
    return rle


def mask_area(rle: Rle) -> int:
    """Count the pixels of a mask; faster-coco-eval checks the counts, where pycocotools reads beyond them.

    Raises:
        RuntimeError: The counts are no RLE.
        ValueError: The counts are more than the mask's pixels.
    """
    return int(checked_mask.area(rle))


def mask_box(rle: Rle) -> list[float]:
    """Return the box around the pixels of a checked mask: x, y, width, height in pixels; zeros where there are none."""
    return checked_mask.toBbox(rle).tolist()


def _text(counts: str | bytes) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
