"""Pictures of any form become the same pixels, blue first; what is none is named."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from regionclip.errors import InputError
from regionclip.inference.pictures import to_bgr

RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)


def encoded(image: Image.Image, **options: object) -> bytes:
    """The bytes of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_channels_are_turned_round() -> None:
    """Red is last, in an array, a Pillow image, and bytes."""
    for picture in (RGB, Image.fromarray(RGB), encoded(Image.fromarray(RGB))):
        np.testing.assert_array_equal(to_bgr(picture), RGB[..., ::-1])


def test_camera_orientation_is_followed() -> None:
    """EXIF orientation 3 is upside down, whether Pillow or the decoder reads it."""
    exif = Image.Exif()
    exif[0x0112] = 3
    content = encoded(Image.fromarray(RGB), exif=exif.tobytes())
    for picture in (content, Image.open(io.BytesIO(content))):
        np.testing.assert_array_equal(to_bgr(picture), RGB[::-1, ::-1, ::-1])


@pytest.mark.parametrize(
    "array", [RGB.astype(float), RGB[..., 0], np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2, 3), np.uint8)]
)
def test_array_of_another_form_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"wanted uint8 \(H, W, 3\)"):
        to_bgr(array)


def test_what_is_no_picture_is_named(tmp_path) -> None:
    """A file that is not there, one that is text, and bytes that are cut short."""
    with pytest.raises(InputError, match="no.png: the file does not exist"):
        to_bgr(tmp_path / "no.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(InputError, match="text.png: not a picture"):
        to_bgr(str(tmp_path / "text.png"))
    with pytest.raises(InputError, match="not a picture"):
        to_bgr(encoded(Image.fromarray(RGB))[:40])
