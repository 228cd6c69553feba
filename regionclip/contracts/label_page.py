"""Histograms of pseudo labels as a page of the Data Docs: the teacher's confidence, and the concepts it saw."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from regionclip.contracts.data_docs import page, table

_SHOWN = 50


def label_page(confidence: Sequence[int], concepts: Mapping[str, int]) -> str:
    """Return the page as HTML.

    Args:
        confidence: Regions by the teacher's probability, in equal bins of 0 to 1.
        concepts: Concept -> kept regions, most frequent first; the first 50 are shown.
    """
    width = 1 / len(confidence)
    bins = {f"{width * place:.2f} to {width * (place + 1):.2f}": count for place, count in enumerate(confidence)}
    shown = dict(list(concepts.items())[:_SHOWN])
    lead = f"{sum(confidence)} regions, of which {sum(concepts.values())} are kept, with {len(concepts)} concepts."
    parts = [
        "<h1>Labels</h1>",
        f'<p class="lead">{lead}</p>',
        "<h2>Probability of the best concept</h2>",
        _bars("Probability", bins),
        f"<h2>Concepts of the kept regions{f', the first {_SHOWN}' if len(concepts) > _SHOWN else ''}</h2>",
        _bars("Concept", shown),
    ]
    return page("Labels", parts)


def _bars(title: str, counts: Mapping[str, int]) -> str:
    most = max(counts.values(), default=0) or 1
    bar = '<meter style="width: 100%" max="{}" value="{}"></meter>'
    return table((title, "Regions", ""), [(html.escape(k), str(n), bar.format(most, n)) for k, n in counts.items()])
