"""Pictures of twelve formats, damaged: the gate and every reader agree on each, and nothing but InputError leaves."""

from __future__ import annotations

import io
import random
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.fuzzing.mutation import mutated
from regionclip.data.pictures import decode_image, header_size, look, look_at_files, to_bgr
from regionclip.errors import InputError

_POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
_TAGGED = Image.Exif()
_TAGGED[0x0112] = 6
_TAGGED[0x011A] = 72.0


@cache
def samples() -> dict[str, bytes]:
    """Return small pictures of the formats that are read, in all their forms, and of some that are not, by name."""
    noise = Image.effect_noise((40, 30), 50).convert("RGB")
    pages = {"save_all": True}
    gray, gray16 = noise.convert("L"), Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    palette, alpha, bits = noise.quantize(16), noise.convert("RGBA"), noise.convert("1")
    forms = {
        "JPEG": [(noise, {}), (gray, {}), (noise.convert("CMYK"), {}), (noise, {"exif": _TAGGED, "progressive": True})],
        "MPO": [(noise, pages)],
        "PNG": [(image, {}) for image in (noise, gray, gray.convert("LA"), gray16, alpha, bits)]
        + [(palette, {"transparency": bytes(range(0, 256, 16))}), (noise, {"exif": _TAGGED}), (noise, pages)],
        "WEBP": [(noise, {"lossless": True}), (noise, {"exif": _TAGGED}), (alpha, {}), (noise, pages)],
        "GIF": [(palette, {}), (palette, {"transparency": 0, **pages}), (gray, {"interlace": 1})],
        "BMP": [(noise, {}), (palette, {}), (bits, {}), (alpha, {})],
        "TIFF": [(image, {}) for image in (noise, gray, gray16, gray.convert("F"), bits, palette, noise.convert("LAB"))]
        + [(noise, {"compression": way}) for way in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")]
        + [(bits, {"compression": "group4"}), (noise, {"exif": _TAGGED}), (noise, pages)],
        "PPM": [(noise, {})],
        "QOI": [(noise, {})],
        "AVIF": [(noise, {})],
        "ICO": [(noise, {})],
        "JPEG2000": [(noise, {})],
    }
    found = {"PostScript": _POSTSCRIPT}
    for name, pictures in forms.items():
        for number, (image, options) in enumerate(pictures):
            buffer = io.BytesIO()
            more = {"append_images": [image.transpose(Image.Transpose.ROTATE_180)]} if "save_all" in options else {}
            # A save leaves settings behind in its image.
            image.copy().save(buffer, name, **options, **more)
            found[f"{name} {number}"] = buffer.getvalue()
    return found


def run(folder: Path, rng: random.Random) -> str:
    """Damage a picture and read it by all ways."""
    name = rng.choice(sorted(samples()))
    return agreed(mutated(samples()[name], rng), folder / f"{name}.jpg")


def agreed(content: bytes, file: Path) -> str:
    """Return ``ok`` or ``refused`` where all ways to read a picture agree on it.

    Raises:
        AssertionError: They do not.
    """
    file.write_bytes(content)
    looked = look(content)
    # Of a damaged fax the rows that are lost hold whatever lay in memory.
    assert look_at_files([file])[0][:4] == looked[:4]
    sizes = set()
    for read in (decode_image, to_bgr):
        for picture in (content, file):
            try:
                image = read(picture)
                sizes.add(image.size if read is decode_image else image.shape[1::-1])
            except InputError as error:
                assert error.mend and error.problem
                sizes.add(None)
    wanted = None if looked.error else (looked.width, looked.height)
    assert sizes == {wanted}, f"the gate sees {looked}, readers {sizes}"
    try:
        size = header_size(file)
        assert wanted in (None, size), f"the header has {size}, the picture {wanted}"
    except InputError:
        assert wanted is None, "the header is refused, the picture is not"
    return "refused" if looked.error else "ok"
