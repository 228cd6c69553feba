"""Contract of image files: each listed one is there, decodes to its end and has the size that is listed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image

from regionclip.contracts.checkpoint import Check
from regionclip.contracts.gx import gx, gxe, said

_BATCH = 64
_ORIENTATION, _TURNED = 0x0112, frozenset({5, 6, 7, 8})


class Looked(NamedTuple):
    """What a look at an image's bytes shows.

    Attributes:
        error: Why it does not decode, or None.
        width: Pixels, after the turn that its EXIF tag asks for; None if it does not decode.
        height: The same.
        sha256: Of the bytes; None if there is no file.
    """

    error: str | None
    width: int | None
    height: int | None
    sha256: str | None


def look(content: bytes) -> Looked:
    """Decode an image to its end."""
    digest = hashlib.sha256(content).hexdigest()
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _TURNED:
                width, height = height, width
    except Exception as error:
        # Pillow's decoders raise errors of many kinds on damaged bytes; some messages name the in-memory stream.
        return Looked(str(error).split(" <_io")[0] or "unreadable", None, None, digest)
    return Looked(None, width, height, digest)


def image_files_table(images: pd.DataFrame, folder: Path, workers: int = 2) -> pd.DataFrame:
    """Look at every listed image.

    Args:
        images: Columns file (the list), id, name, width, height.
        folder: What the names are relative to.
        workers: Threads that read and decode.

    Returns:
        One row an image: file (the image's path), listed_in, id, width, height, exists, error, real_width,
        real_height, sha256.
    """
    paths = [folder / name for name in images["name"]]
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        seen = [looked for batch in pool.map(_look_at, batches) for looked in batch]
    return pd.DataFrame(
        {
            "file": [str(path) for path in paths],
            "listed_in": images["file"].to_numpy(),
            "id": images["id"].to_numpy(),
            "width": images["width"].to_numpy(),
            "height": images["height"].to_numpy(),
            "exists": [looked.sha256 is not None for looked in seen],
            "error": pd.Series([looked.error for looked in seen], dtype=object),
            "real_width": pd.array([looked.width for looked in seen], dtype="Float64"),
            "real_height": pd.array([looked.height for looked in seen], dtype="Float64"),
            "sha256": pd.Series([looked.sha256 for looked in seen], dtype=object),
        }
    )


def image_file_check(name: str, table: pd.DataFrame) -> Check:
    """Return the check of the images that `image_files_table` looked at."""
    size = "the image file has another size than its list says"
    expectations = [
        gxe.ExpectColumnValuesToBeInSet(
            column="exists",
            value_set=[True],
            meta=said("the image file does not exist", "fetch the image, or drop it from the list", "file_name"),
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="error",
            meta=said("the image does not decode", "fetch the image again; it is damaged or cut short", "file_name"),
        ),
        *(
            gxe.ExpectColumnPairValuesToBeEqual(
                column_A=side,
                column_B=f"real_{side}",
                ignore_row_if="either_value_is_missing",
                meta=said(size, "mend the list, or fetch the image again"),
            )
            for side in ("width", "height")
        ),
    ]
    suite = gx.ExpectationSuite(name=f"{name} image files", expectations=expectations)
    return Check(suite, table, ("file", "id"))


def _look_at(paths: Sequence[Path]) -> list[Looked]:
    return [look(path.read_bytes()) if path.is_file() else Looked(None, None, None, None) for path in paths]
