"""Data Docs: what a gate found, what was set aside, and histograms of labels, as pages that load nothing."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regionclip.data.rejects import SUFFIX, reason
from regionclip.errors import InputError
from regionclip.files import atomic_dir

# Nothing is loaded and nothing runs, whatever a page came to hold.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #212529; margin: 0 auto; max-width: 1500px; padding: 1rem 2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } a { color: #0b5cad; text-decoration: none; }
.lead { color: #555; } table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #dde2e7; }
th { background: #eef1f4; } .mark { border-radius: 4px; padding: .1rem .5rem; font-size: 85%; color: #fff; }
img { max-width: 100%; border: 1px solid #dde2e7; margin: .5rem 0; }
.met { background: #1a7f37; } .error { background: #b3261e; } .warning { background: #9a6700; }
"""
_RECORDS, _CONCEPTS = 1000, 50  # listed on a page
_KEYS = ("file", "record", "key", "reason", "mend")


class Markup(str):
    """HTML that is no text of the data."""


def write_pages(folder: Path, pages: Mapping[str, str]) -> None:
    """Write FOLDER, whole or not at all: file name -> page."""
    with atomic_dir(folder) as beside:
        for name, text in pages.items():
            # JSON may hold halves of characters.
            (beside / name).write_text(text, encoding="utf-8", errors="backslashreplace")


def results_page(title: str, results: Sequence[Mapping[str, Any]], more: Iterable[str]) -> str:
    """Return the index of the Data Docs: the verdict, the findings, then each suite with all its expectations.

    Pages beside it, each at the lower-case name of its title, are given as ``more``.
    """
    failed = sorted((result for result in results if not result["success"]), key=lambda result: result["severity"])
    errors = sum(result["severity"] == "error" for result in failed)
    parts = [lead(f"{len(results)} expectations, {errors} errors, {len(failed) - errors} warnings")]
    parts += [f'<p><a href="{name.lower()}.html">{html.escape(name)}</a></p>' for name in more]
    if failed:
        columns = ("", "Artefact", "Key", "Problem", "Records", "First record", "To mend")
        parts += ["<h2>Findings</h2>", table(columns, map(_finding_row, failed))]
    suites = list(dict.fromkeys(result["artefact"] for result in results))
    by_suite = {suite: [result for result in results if result["artefact"] == suite] for suite in suites}
    rows = []
    for place, (suite, found) in enumerate(by_suite.items()):
        met = sum(result["success"] for result in found)
        rows.append([_worst(found), Markup(f'<a href="#suite-{place}">{html.escape(suite)}</a>'), len(found), met])
    parts += ["<h2>Suites</h2>", table(("", "Suite", "Expectations", "Met"), rows)]
    for place, (suite, found) in enumerate(by_suite.items()):
        columns = ("", "Expectation", "Column", "Refuses", "Found", "Records", "First records")
        parts += [f'<h2 id="suite-{place}">{html.escape(suite)}</h2>', table(columns, map(_expectation_row, found))]
    return page(title, parts)


def _finding_row(result: Mapping[str, Any]) -> list[Any]:
    first = _record(result["records"][0]) if result["records"] else ""
    if not first and result["observed"] is not None:
        first = f"found {result['observed']}"
    keys = (result["artefact"], result["key"], result["problem"], result["unexpected"] or "", first, result["mend"])
    return [_mark(result["severity"]), *keys]


def _expectation_row(result: Mapping[str, Any]) -> list[Any]:
    words = result["expectation"].removeprefix("expect_").replace("_", " ")
    records = "; ".join(map(_record, result["records"]))
    cells = (words, result["column"], result["problem"], result["observed"], result["unexpected"] or "", records)
    return [_worst([result]), *cells]


def _record(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in record.items())


def _worst(results: Sequence[Mapping[str, Any]]) -> Markup:
    failed = {result["severity"] for result in results if not result["success"]}
    return _mark("error" if "error" in failed else "warning" if failed else "met")


def _mark(severity: str) -> Markup:
    return Markup(f'<span class="mark {severity}">{severity}</span>')


def read_rejected(*places: Path) -> list[dict[str, Any]]:
    """Return the records of files ``SET_rejected.jsonl``, or folders of them, each with its ``set``.

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
                problem, mend = f"not a rejected record ({error!r})", "run the stage `data` again"
                raise InputError(problem, file=path, record=f"line {number}", mend=mend) from None
    return records


def quarantine_page(records: Sequence[dict[str, Any]]) -> str:
    """Return the report of what was set aside; of many records the first 1,000 are listed."""
    if not records:
        return page("Quarantine", [lead("No record was set aside.")])
    counts = Counter((record["set"], reason(InputError(record["reason"]))) for record in records)
    more = f" The first {_RECORDS} are listed; the files have all." if len(records) > _RECORDS else ""
    parts = [
        lead(f"{len(records)} records were set aside.{more}"),
        "<h2>By reason</h2>",
        table(("Records", "Set", "Reason"), ([count, *place] for place, count in counts.most_common())),
        "<h2>Records</h2>",
        table(("File", "Record", "Key", "Reason", "To mend"), ([r[key] for key in _KEYS] for r in records[:_RECORDS])),
    ]
    return page("Quarantine", parts)


def label_page(confidence: Sequence[int], concepts: Mapping[str, int]) -> str:
    """Return the histograms of pseudo labels; see ``label_profile``. The first 50 concepts are shown."""
    width = 1 / len(confidence)
    bins = {f"{width * place:.2f} to {width * (place + 1):.2f}": count for place, count in enumerate(confidence)}
    shown = dict(list(concepts.items())[:_CONCEPTS])
    parts = [
        lead(f"{sum(confidence)} regions, of which {sum(concepts.values())} are kept, with {len(concepts)} concepts."),
        "<h2>Probability of the best concept</h2>",
        _bars("Probability", bins),
        f"<h2>Concepts of the kept regions{f', the first {_CONCEPTS}' if len(concepts) > _CONCEPTS else ''}</h2>",
        _bars("Concept", shown),
    ]
    return page("Labels", parts)


def _bars(title: str, counts: Mapping[str, int]) -> str:
    most = max(counts.values(), default=0) or 1
    bar = '<meter style="width: 100%" max="{}" value="{}"></meter>'
    return table(
        (title, "Regions", ""), ([key, count, Markup(bar.format(most, count))] for key, count in counts.items())
    )


def page(title: str, parts: Iterable[str], *, pictures: bool = False) -> str:
    """Return an HTML page; ``parts`` are HTML; with ``pictures``, those of files beside it are shown."""
    policy = POLICY + "; img-src 'self' file:" * pictures
    policy = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    head = f'<meta charset="UTF-8">{policy}<title>{html.escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return f"<!DOCTYPE html>\n<html><head>{head}</head><body>\n{body}\n</body></html>\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table; cells are text, numbers, None or `Markup`."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _cell(value: Any) -> str:
    return value if isinstance(value, Markup) else html.escape("" if value is None else str(value))


def lead(text: str) -> str:
    """Return a quiet paragraph."""
    return f'<p class="lead">{html.escape(text)}</p>'
