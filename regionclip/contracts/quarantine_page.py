"""Quarantine report: an HTML page of the records that were set aside, by reason and one by one."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regionclip.contracts.data_docs import page, table
from regionclip.data.rejects import SUFFIX, reason
from regionclip.errors import InputError

_SHOWN = 1000
_KEYS = ("file", "record", "key", "reason", "mend")


def read_rejected(*places: Path) -> list[dict[str, Any]]:
    """Return the records of files ``SET_rejected.jsonl``, each with its ``set``.

    Args:
        *places: Files, or folders of them; what is not there has none.

    Raises:
        InputError: A line is no JSON object with the keys file, record, key, reason and mend.
    """
    records = []
    files = [file for place in places for file in (sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else [place])]
    for path in filter(Path.is_file, files):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                record = json.loads(line)
                records.append({"set": path.name.removesuffix(SUFFIX), **{key: record[key] for key in _KEYS}})
            except (ValueError, TypeError, KeyError) as error:
                raise InputError(
                    f"not a rejected record ({error!r})",
                    file=path,
                    record=f"line {number}",
                    mend="run the stage `data` again",
                ) from None
    return records


def quarantine_page(records: Sequence[dict[str, Any]]) -> str:
    """Return the report as HTML; of many records the first 1,000 are listed."""
    if not records:
        return page("Quarantine", ["<h1>Quarantine</h1>", '<p class="lead">No record was set aside.</p>'])
    counts = Counter((record["set"], reason(InputError(record["reason"]))) for record in records)
    by_reason = [[str(count), *map(_escape, place)] for place, count in counts.most_common()]
    listed = [[_escape(record[key]) for key in _KEYS] for record in records[:_SHOWN]]
    more = f" The first {_SHOWN} are listed; the files have all." if len(records) > _SHOWN else ""
    parts = [
        "<h1>Quarantine</h1>",
        f'<p class="lead">{len(records)} records were set aside.{more}</p>',
        "<h2>By reason</h2>",
        table(("Records", "Set", "Reason"), by_reason),
        "<h2>Records</h2>",
        table(("File", "Record", "Key", "Reason", "To mend"), listed),
    ]
    return page("Quarantine", parts)


def _escape(value: object) -> str:
    return html.escape("" if value is None else str(value))
