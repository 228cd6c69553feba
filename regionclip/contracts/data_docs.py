"""Data Docs: Great Expectations' page of each suite below an index of ours, all readable without network."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.contracts.data_docs_style import STYLE
from regionclip.files import atomic_dir

if TYPE_CHECKING:
    from great_expectations.data_context import EphemeralDataContext

INDEX = "index.html"
# Nothing is loaded and nothing runs, whatever a page came to hold.
POLICY = (
    """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; """
    """base-uri 'none'; form-action 'none'">"""
)
# Great Expectations escapes some of what comes from data, and takes a dollar for a template's. So the letters that mean
# something to it or to HTML go through it as ones that mean nothing, of Unicode's private use, and come out as text.
_LETTERS = "<>&\"'$`"
_THROUGH = {ord(letter): 0xE100 + place for place, letter in enumerate(_LETTERS)}
_AS_TEXT = {0xE100 + place: f"&#{ord(letter)};" for place, letter in enumerate(_LETTERS)}
_SITE = "pages"
# What GX's pages load from elsewhere, the scripts and buttons that need it, and links to pages that are not written.
# The pages are whole without them: scripts fold details and filter. The index, which a script would fill, is ours.
_FOREIGN = (
    re.compile(r"<style>.*?</style>", re.DOTALL),
    re.compile(r"<script.*?</script>", re.DOTALL),
    re.compile(r"<link\b[^>]*>"),
    re.compile(r"<a href=\"[^\"]*\">\s*<img\b[^>]*>\s*</a>", re.DOTALL),
    re.compile(r"<footer>.*?</footer>", re.DOTALL),
    re.compile(r'<a href="[^"]*expectations/[^"]*" ?>([^<]*)</a>'),
    re.compile(r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions.*?</label>.*?</label>'
               r"\s*</div>\s*</div>\s*</div>\s*</div>\s*</div>", re.DOTALL),
)  # fmt: skip


def build_data_docs(
    context: EphemeralDataContext,
    folder: Path,
    title: str,
    results: Sequence[Mapping[str, Any]],
    more: Mapping[str, str],
) -> None:
    """Write FOLDER, whole or not at all: ``index.html`` and one page a suite.

    Args:
        context: Holds the suites and the results of their checkpoints.
        folder: Replaced where it is there.
        title: Of the index.
        results: As ``run_checks`` gives them, for the index.
        more: Pages of other content: title -> HTML.
    """
    with tempfile.TemporaryDirectory() as raw, atomic_dir(folder) as beside:
        for key in context.validation_results_store.list_keys():
            validated = context.validation_results_store.get(key)
            for found in validated.results:
                found.result, found.expectation_config.kwargs = map(
                    _harmless, (found.result, found.expectation_config.kwargs)
                )
            context.validation_results_store.set(key, validated)
        context.add_data_docs_site(_SITE, _site(raw, context.validation_results_store_name))
        context.build_data_docs(site_names=[_SITE])
        pages = {}
        for file in sorted((Path(raw) / "validations").rglob("*.html")):
            suite = file.relative_to(Path(raw) / "validations").parts[0]
            pages[suite] = f"{suite.replace(' ', '_')}.html"
            _write(beside / pages[suite], _local(file.read_text(encoding="utf-8")))
        for name, content in more.items():
            _write(beside / f"{name.lower()}.html", content)
        _write(beside / INDEX, _index(title, results, pages, more))


def _write(file: Path, text: str) -> None:
    # JSON may hold halves of characters.
    file.write_text(text, encoding="utf-8", errors="backslashreplace")


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return value.translate(_THROUGH)
    if isinstance(value, Mapping):
        return {_harmless(key): _harmless(item) for key, item in value.items()}
    return [_harmless(item) for item in value] if isinstance(value, (list, tuple, set)) else value


def _site(folder: str, store: str) -> dict[str, Any]:
    """Return GX's configuration of a site that holds the results of checkpoints only."""
    renderer = {
        "module_name": "great_expectations.render.renderer.page_renderer",
        "class_name": "ValidationResultsPageRenderer",
    }
    section = {"class_name": "DefaultSiteSectionBuilder", "source_store_name": store, "renderer": renderer}
    return {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
        "show_how_to_buttons": False,
        "site_section_builders": {"expectations": "None", "profiling": "None", "validations": section},
    }


def page(title: str, parts: Iterable[str]) -> str:
    """Return an HTML page in the style of the others; ``parts`` are HTML."""
    head = f'<meta charset="UTF-8">{POLICY}<title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f"<!DOCTYPE html>\n<html><head>{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table; cells are HTML."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="table"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'


def _local(text: str) -> str:
    """Take out of a page of GX what comes from the network; put our style in."""
    for pattern in _FOREIGN:
        text = pattern.sub(r"\1" if pattern.groups else "", text)
    text = re.sub(r"(\.\./)+index\.html", INDEX, text)
    text = text.replace("<head>", f"<head>{POLICY}", 1).replace("</head>", f"<style>{STYLE}</style></head>", 1)
    return text.translate(_AS_TEXT)


def _index(title: str, results: Sequence[Mapping[str, Any]], pages: Mapping[str, str], more: Collection[str]) -> str:
    failed = sorted((result for result in results if not result["success"]), key=lambda result: result["severity"])
    errors = sum(result["severity"] == "error" for result in failed)
    verdict = f"{len(results)} expectations, {errors} errors, {len(failed) - errors} warnings"
    suites = dict.fromkeys(result["artefact"] for result in results)
    rows = [_suite_row(suite, [r for r in results if r["artefact"] == suite], pages.get(suite)) for suite in suites]
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="lead">{verdict}</p>']
    parts += [f'<p><a href="{name.lower()}.html">{html.escape(name)}</a></p>' for name in more]
    if failed:
        columns = ("", "Artefact", "Key", "Problem", "Records", "First record", "To mend")
        parts += ["<h2>Findings</h2>", table(columns, map(_finding_row, failed))]
    return page(title, [*parts, "<h2>Suites</h2>", table(("", "Suite", "Expectations", "Met"), rows)])


def _suite_row(suite: str, results: Sequence[Mapping[str, Any]], link: str | None) -> list[str]:
    met = sum(result["success"] for result in results)
    failed = {result["severity"] for result in results if not result["success"]}
    mark = "error" if "error" in failed else "warning" if failed else "met"
    name = html.escape(suite)
    return [_mark(mark), f'<a href="{link}">{name}</a>' if link else name, str(len(results)), str(met)]


def _finding_row(result: Mapping[str, Any]) -> list[str]:
    first = ", ".join(f"{key} {value}" for key, value in result["records"][0].items()) if result["records"] else ""
    if not first and result["observed"] is not None:
        first = f"found {result['observed']}"
    cells = (result["artefact"], result["key"], result["problem"], result["unexpected"] or "", first, result["mend"])
    return [_mark(result["severity"]), *(html.escape(str(cell or "")) for cell in cells)]


def _mark(severity: str) -> str:
    return f'<span class="mark {severity}">{severity}</span>'
