"""Sizes of the images that region stores are of, from the list that names them or from the images' headers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from regionclip.data.annotations.tables import INTEGER, read_object, records_table
from regionclip.data.pictures import header_size
from regionclip.errors import InputError

if TYPE_CHECKING:
    from regionclip.data.captions import CaptionedImage


def listed_sizes(file: Path) -> pd.DataFrame:
    """Return id, width and height (pixels) of the images that a COCO or LVIS file lists.

    Raises:
        InputError: The file is absent or is not JSON.
        DataCheckFailed: A record lacks a key or holds another type in it.
    """
    keys = {"id": INTEGER, "width": INTEGER, "height": INTEGER}
    return records_table(read_object(file), "images", file, keys).drop(columns="file")


def header_sizes(records: Iterable[CaptionedImage], id_type: Callable[[str], int | str]) -> pd.DataFrame:
    """Return id, width and height (pixels) of captioned images, read from the images' headers; NaN where unreadable.

    Args:
        records: The captioned images.
        id_type: Turns a record's key to the store's id.
    """
    return pd.DataFrame(
        [(id_type(record.key), *_header(record)) for record in records], columns=["id", "width", "height"]
    )


def _header(record: CaptionedImage) -> tuple[float, float]:
    try:
        return header_size(record.image)
    except InputError:
        return math.nan, math.nan
