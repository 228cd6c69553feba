"""Contracts of pictures: each is there, decodes and has its listed size; none is trained on and measured on.

Copies are told by SHA-256, or by likeness of the pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.data.pictures import Looked, look_at_files

MOST_BITS, MOST_GRAY = 5, 8
"""Pictures are alike if of 64 comparisons of neighbouring cells at most so many differ (dHash), and no cell by more
gray levels. Of 200 scenes of the demo world this finds 97 to 100 % of copies that were scaled by 0.5 to 2 or saved anew
at JPEG quality 50 to 95, and none among 8.8 million pairs of other scenes."""

DROP = "drop it from one of them"


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
    return Check(f"{name} image files", table, ("file", "id"), expectations)


class Pictures(NamedTuple):
    """The image files of one split.

    Attributes:
        source: Name of the set; "scenes" and "pairs" are captioned ones.
        split: Its split.
        table: See ``image_files_table``.
        trained: Whether it is trained on; the others are measured on.
    """

    source: str
    split: str
    table: pd.DataFrame
    trained: bool


def shared_picture_check(pictures: list[Pictures], *, known: frozenset[str] = frozenset()) -> Check:
    """Return the check of pictures that are measured on, and trained on under another name.

    The same bytes in another set are an error; in the set's own training split they are the business of
    ``split_checks``. Other bytes that are alike (see `MOST_BITS`), in any set, are a warning: a scaled or
    recompressed copy, or by chance.

    Args:
        pictures: All splits of all sets.
        known: Sets whose measured pictures are known to come from other sets' training pictures, as LVIS's do: 15,000
            of its validation pictures are of COCO's train2017. There it is a warning.
    """
    columns = ["file", "id", "sha256", "likeness"]
    parts = [
        part.table[columns].assign(source=part.source, split=part.split, trained=part.trained) for part in pictures
    ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    trained, measured = table[table["trained"]], table[~table["trained"]]
    twin, is_known = twins(measured, trained, "source"), measured["source"].isin(known)
    found = {
        "leak": twin.where(~is_known),
        "known_leak": twin.where(is_known),
        "likely_leak": _alike(measured, trained),
    }
    measured = measured[["file", "source", "split", "id"]].assign(
        **{name: column.astype(object).where(column.notna(), None) for name, column in found.items()}
    )
    shared = "the picture is measured on, and trained on in another set"
    like = "the picture looks like one that is trained on"
    expectations = [
        Expect(shared, DROP, "file_name").none("leak"),
        Expect(shared, DROP, "file_name", WARNING).none("known_leak"),
        Expect(like, "look at both, and drop one", "file_name", WARNING).none("likely_leak"),
    ]
    return Check("pictures across sets", measured, ("file", "source", "split", "id"), expectations)


def twins(pictures: pd.DataFrame, others: pd.DataFrame, apart: str) -> pd.Series:
    """For each picture the file of one with the same bytes and another value in the column ``apart``, or NaN."""
    # Pictures that could not be read have no sum, and would all be one another's twins.
    pairs = pictures.dropna(subset="sha256").merge(others, on="sha256", suffixes=("", "_other"))
    pairs = pairs[pairs[apart] != pairs[f"{apart}_other"]].drop_duplicates("file")
    return pictures["file"].map(pairs.set_index("file")["file_other"])


def _alike(measured: pd.DataFrame, trained: pd.DataFrame) -> pd.Series:
    """For each measured picture the trained one of other bytes that is most like it, or None."""
    found = pd.Series([None] * len(measured), index=measured.index, dtype=object)
    trained, known = trained.dropna(subset="likeness"), measured.dropna(subset="likeness")
    cells, sums = _cells(trained["likeness"]), trained["sha256"].to_numpy()
    hashes, own_cells = _difference_hash(cells), _cells(known["likeness"])
    rows = zip(known.index, own_cells, _difference_hash(own_cells), known["sha256"], strict=True)
    for place, own, own_hash, digest in rows:
        near = np.flatnonzero(np.bitwise_count(hashes ^ own_hash) <= MOST_BITS)
        near = near[sums[near] != digest]
        apart = np.abs(cells[near] - own).max(axis=(1, 2), initial=0)
        if near.size and apart.min() <= MOST_GRAY:
            found[place] = trained["file"].iloc[near[apart.argmin()]]
    return found


def _cells(likeness: pd.Series) -> np.ndarray:
    """Return gray cells int16 (N, 8, 9)."""
    return np.frombuffer(bytes.fromhex("".join(likeness)), np.uint8).reshape(-1, 8, 9).astype(np.int16)


def _difference_hash(cells: np.ndarray) -> np.ndarray:
    """Return uint64 (N,): whether each cell is brighter than its right neighbour."""
    bits = np.packbits(cells[:, :, :-1] > cells[:, :, 1:], axis=-1)
    return np.ascontiguousarray(bits.reshape(-1, 8)).view(np.uint64).ravel()
