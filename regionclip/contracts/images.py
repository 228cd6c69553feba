"""Contract of image files: each listed one is there, decodes to its end and has the size that is listed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from regionclip.contracts.gx import Check, Expect, check
from regionclip.data.pictures import Looked, look_at_files


def image_files_table(
    images: pd.DataFrame, folder: Path, workers: int = 2, seen: dict[Path, Looked] | None = None
) -> pd.DataFrame:
    """Look at every listed image (id, name below the folder, width, height); see `look_at_files`.

    Returns:
        One row an image: file (the image's path), id, width, height, exists, error, real_width, real_height, sha256,
        likeness.
    """
    paths = [folder / name for name in images["name"]]
    found = look_at_files(paths, workers, seen)
    return pd.DataFrame(
        {
            "file": [str(path) for path in paths],
            **{key: images[key].to_numpy() for key in ("id", "width", "height")},
            "exists": [looked.sha256 is not None for looked in found],
            "error": pd.Series([looked.error for looked in found], dtype=object),
            "real_width": pd.array([looked.width for looked in found], dtype="Float64"),
            "real_height": pd.array([looked.height for looked in found], dtype="Float64"),
            "sha256": pd.Series([looked.sha256 for looked in found], dtype=object),
            "likeness": pd.Series([looked.likeness for looked in found], dtype=object),
        }
    )


def image_file_check(name: str, table: pd.DataFrame) -> Check:
    """Return the check of the images that `image_files_table` looked at."""
    size = Expect("the image file has another size than its list says", "mend the list, or fetch the image again")
    absent = "fetch the image, or drop it from the list"
    broken = "fetch the image again; it is damaged or cut short"
    expectations = [
        Expect("the image file does not exist", absent, "file_name").among("exists", [True]),
        Expect("the image does not decode", broken, "file_name").none("error"),
        *(size.equal(side, f"real_{side}") for side in ("width", "height")),
    ]
    return check(f"{name} image files", table, ("file", "id"), expectations)
