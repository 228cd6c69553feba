"""Captioned images from COCO captions JSON, JSON Lines or WebDataset shards, through one interface."""

from __future__ import annotations

from regionclip.data.captions.base import CaptionedImage, CaptionedImages
from regionclip.data.captions.decoding import decode_image
from regionclip.data.captions.opening import open_captioned_images

__all__ = ["CaptionedImage", "CaptionedImages", "decode_image", "open_captioned_images"]
