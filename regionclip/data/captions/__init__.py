"""Captioned images from COCO captions JSON, JSON Lines, WebDataset shards or official TSV, through one interface."""

from __future__ import annotations

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.opening import open_captioned_images
from regionclip.data.captions.record import CaptionedImage
from regionclip.data.captions.table import CaptionTable
from regionclip.data.pictures import ImageSpan, decode_image

__all__ = [
    "CaptionTable",
    "CaptionedImage",
    "CaptionedImages",
    "ImageSpan",
    "decode_image",
    "open_captioned_images",
]
