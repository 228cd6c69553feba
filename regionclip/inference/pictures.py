"""Pictures in the forms that callers have them in, as what MMDetection's pipelines work on."""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from regionclip.errors import InputError

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]


def to_bgr(picture: Picture) -> NDArray[np.uint8]:
    """Return a picture as uint8 (H, W, 3), BGR, decoded as the stages do it.

    Args:
        picture: Path of a file, its bytes, a Pillow image, or uint8 (H, W, 3) in RGB.

    Raises:
        InputError: There is no such file, it is no picture, or the array has another form.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            problem = f"the array is {picture.dtype} {picture.shape}, wanted uint8 (H, W, 3)"
            raise InputError(problem, mend="give RGB pixels from 0 to 255")
        return np.ascontiguousarray(picture[..., ::-1])
    if isinstance(picture, Image.Image):
        return np.ascontiguousarray(np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))[..., ::-1])
    file = None if isinstance(picture, bytes) else Path(picture)
    try:
        content = picture if file is None else file.read_bytes()
        return np.ascontiguousarray(mmcv.imfrombytes(content, backend="pillow"))
    except FileNotFoundError:
        raise InputError("the file does not exist", file=file, mend="mend the path") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"not a picture ({error})", file=file, mend="give a JPEG, PNG or the like") from None
