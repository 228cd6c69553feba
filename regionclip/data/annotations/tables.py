"""Lists of records in JSON files as tables, with the sizes of the images that region stores are of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from regionclip.data.pictures import header_size
from regionclip.errors import DataCheckFailed, InputError
from regionclip.files import read_json

if TYPE_CHECKING:
    from regionclip.data.captions import CaptionedImage

_MEND = "mend the record, or run the stage that wrote the file again"
_NAMES = {int: "a whole number", str: "a text"}


def read_tables(file: Path, columns: Mapping[str, Mapping[str, type]]) -> list[pd.DataFrame]:
    """Read lists of objects from a JSON file.

    Args:
        file: The file; it becomes the column ``file``.
        columns: Key of a list, such as ``annotations`` -> key of its records -> accepted type, int or str.

    Returns:
        One table a list.

    Raises:
        InputError: The file is absent or is not JSON.
        DataCheckFailed: A list is not there, or a record lacks a key or holds another type in it.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataCheckFailed("the top level is no object", file=file, mend=_MEND)
    tables = []
    for part, types in columns.items():
        records = content.get(part)
        if not isinstance(records, list):
            raise DataCheckFailed("there is no such list", file=file, key=part, mend=_MEND)
        for place, record in enumerate(records):
            known = isinstance(record, dict)
            for key, wanted in types.items():
                if not known or type(record.get(key)) is not wanted:
                    got = f"expected {_NAMES[wanted]}, got {str(record.get(key))[:60]!r}" if known else ""
                    problem = got if known and key in record else "the key is missing"
                    name = f"{part} {record['id']}" if known and "id" in record else f"{part}, item {place}"
                    raise DataCheckFailed(problem, file=file, record=name, key=key, mend=_MEND)
        rows = [[str(file), *(record[key] for key in types)] for record in records]
        tables.append(pd.DataFrame(rows, columns=["file", *types]))
    return tables


def listed_sizes(file: Path) -> pd.DataFrame:
    """Return id, width and height (pixels) of the images that a JSON file lists; errors as `read_tables`."""
    (images,) = read_tables(file, {"images": {"id": int, "width": int, "height": int}})
    return images.drop(columns="file")


def header_sizes(records: Iterable[CaptionedImage], id_type: Callable[[str], int | str]) -> pd.DataFrame:
    """Return id, width and height (pixels) of captioned images, read from the images' headers; NaN where unreadable.

    Args:
        records: The captioned images.
        id_type: Turns a record's key to the store's id.
    """
    rows = [(id_type(record.key), *_header(record)) for record in records]
    return pd.DataFrame(rows, columns=["id", "width", "height"])


def _header(record: CaptionedImage) -> tuple[float, float]:
    try:
        return header_size(record.image)
    except InputError:
        return math.nan, math.nan
