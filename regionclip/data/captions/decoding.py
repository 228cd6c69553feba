"""Decoding of images, with an error that names the file."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from regionclip.data.captions.span import ImageSpan
from regionclip.data.pictures import depth_problem
from regionclip.errors import InputError


def decode_image(image: bytes | str | Path | ImageSpan, name: str | Path | None = None) -> Image.Image:
    """Decode an image to RGB, turned as its EXIF orientation says (as MMDetection's loader and the official code do).

    Args:
        image: The image's file, its place in a larger file, or its bytes.
        name: What to call it in an error; default: the file.

    Raises:
        InputError: The file is absent, is no image, is cut short, or has pixels of more than 8 bits in one channel.
    """
    if name is None:
        name = "image bytes" if isinstance(image, bytes) else image.file if isinstance(image, ImageSpan) else image
    try:
        content = image.read() if isinstance(image, ImageSpan) else image
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
            if problem := depth_problem(opened):
                raise ValueError(problem)
            return ImageOps.exif_transpose(opened).convert("RGB")
    except FileNotFoundError:
        raise InputError("the image does not exist", file=name, mend="put it there, or take its record out") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        problem = (
            "not an image" if isinstance(error, UnidentifiedImageError) else f"the image cannot be decoded ({error})"
        )
        raise InputError(problem, file=name, mend="fetch the image again, or take its record out") from None
