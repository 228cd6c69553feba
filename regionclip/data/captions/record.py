"""CaptionedImage: one record of a source of captioned images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from regionclip.data.pictures import ImageSpan


@dataclass(frozen=True)
class CaptionedImage:
    """An image that is not decoded yet, and its captions.

    Attributes:
        key: Unique in the source: the COCO image id, the image's name in JSON Lines, the key in a shard or TSV.
        image: The image's file, or its place in a shard or TSV; for ``decode_image``.
        captions: At least one, none of them empty.
    """

    key: str
    image: Path | ImageSpan
    captions: tuple[str, ...]
