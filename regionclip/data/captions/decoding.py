"""Decoding of images, with an error that names the file."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from regionclip.errors import InputError


def decode_image(image: bytes | str | Path, name: str | Path | None = None) -> Image.Image:
    """Decode an image to RGB, turned as its EXIF orientation says (as MMDetection's loader and the official code do).

    Args:
        image: The image's file or its bytes.
        name: What to call it in an error; default: the file.

    Raises:
        InputError: The file is absent, is no image, or is cut short.
    """
    name = name if name is not None else "image bytes" if isinstance(image, bytes) else image
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except FileNotFoundError:
        raise InputError("the image does not exist", file=name, mend="put it there, or take its record out") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        problem = (
            "not an image" if isinstance(error, UnidentifiedImageError) else f"the image cannot be decoded ({error})"
        )
        raise InputError(problem, file=name, mend="fetch the image again, or take its record out") from None
