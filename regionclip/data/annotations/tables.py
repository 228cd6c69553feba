"""JSON annotation files to tables; a missing or ill-typed key is refused with file, record and key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regionclip.errors import DataCheckFailed
from regionclip.files import read_json

INTEGER, NUMBER, TEXT, LIST = (int,), (int, float), (str,), (list,)
_MEND = "mend the record, or run the stage that wrote the file again"
_NAMES = {INTEGER: "a whole number", NUMBER: "a number", TEXT: "a text", LIST: "a list"}


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON file whose top level is an object.

    Raises:
        InputError: The file is absent or is not JSON.
        DataCheckFailed: It holds something else.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataCheckFailed("the top level is no object", file=file, mend=_MEND)
    return content


def records_table(
    content: Mapping[str, Any], part: str, file: Path, columns: Mapping[str, tuple[type, ...]]
) -> pd.DataFrame:
    """Turn a list of objects into a table with the columns asked for.

    Args:
        content: The file's content.
        part: The key of the list in it, for example ``annotations``.
        file: The file, for messages; becomes the column ``file``.
        columns: Key -> accepted types (one of this module's constants).

    Raises:
        DataCheckFailed: The list is not there, or a record lacks a key or holds another type in it.
    """
    records = content.get(part)
    if not isinstance(records, list):
        raise DataCheckFailed("there is no such list", file=file, key=part, mend=_MEND)
    data: dict[str, Any] = {"file": [str(file)] * len(records)}
    for key, types in columns.items():
        try:
            values = [record[key] for record in records]
        except (KeyError, TypeError):
            raise _missing(records, part, file, key) from None
        # The set of types is small; only an ill-typed file is searched record by record.
        if not set(map(type, values)) <= set(types):
            raise _ill_typed(records, values, part, file, key, types)
        data[key] = values
    return pd.DataFrame(data, columns=["file", *columns])


def boxes_array(table: pd.DataFrame, key: str) -> np.ndarray:
    """Return a column of lists of four numbers as float64 (N, 4).

    Raises:
        DataCheckFailed: A record holds something else.
    """
    for file, number, box in zip(table["file"], table["id"], table[key], strict=True):
        if len(box) != 4 or not all(type(value) in NUMBER for value in box):
            problem = f"expected a list of four numbers, got {str(box)[:60]}"
            raise DataCheckFailed(problem, file=file, record=f"annotation {number}", key=key, mend=_MEND)
    return np.array(table[key].tolist(), np.float64).reshape(-1, 4)


def _missing(records: list[Any], part: str, file: Path, key: str) -> DataCheckFailed:
    at = next(i for i, record in enumerate(records) if not isinstance(record, dict) or key not in record)
    return DataCheckFailed("the key is missing", file=file, record=_name(records[at], part, at), key=key, mend=_MEND)


def _ill_typed(
    records: list[Any], values: list[Any], part: str, file: Path, key: str, types: tuple[type, ...]
) -> DataCheckFailed:
    at = next(i for i, value in enumerate(values) if type(value) not in types)
    problem = f"expected {_NAMES[types]}, got {str(values[at])[:60]!r}"
    return DataCheckFailed(problem, file=file, record=_name(records[at], part, at), key=key, mend=_MEND)


def _name(record: Any, part: str, at: int) -> str:
    known = isinstance(record, dict) and "id" in record
    return f"{part} {record['id']}" if known else f"{part}, item {at}"
