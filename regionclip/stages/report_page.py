"""reports/index.html: the whole report on one page, which opens without network and shows the pictures beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from regionclip.artifacts import CHECKS, DATA_DOCS, PLOTS, SUMMARY, SUMMARY_TABLE, file_name
from regionclip.contracts.pages import Markup, lead, page, table
from regionclip.evaluation.summary import Table, boxes_used, forgotten, lead_text, measured, mistakes, title

_GAIN = "Of each number, CLIP and RegionCLIP beside each other; novel classes have no box in any training."
_FOUND = "The truth, then what is found from each initialisation; a wrong detection is dashed and crossed."
_WRONG = """Kinds of mistakes of the fine-tuned detectors, at an overlap of 0.5. The bars say what AP50 would gain if
one kind were mended and all else stayed; the table counts mistakes among the surest detections, as many as there are
objects; the pictures are the surest mistakes of RegionCLIP, or of CLIP where that alone was fine-tuned."""
_FORGOT = """Fine-tuning sees boxes of base classes only. Does the encoder still name objects of the others? All classes
compete on the true boxes, before fine-tuning and after."""
_DATA = """Every box of the annotation files is used, or there is a reason. The gates' findings are in git; their Data
Docs, and what was set aside, lie where the gates ran, and in MLflow."""
_FILES = "Where a registered model comes from says its model card, the README.md in its bundle."


def report_page(summary: Mapping[str, Any], pictures: Collection[str], gates: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        summary: Of ``build_summary``.
        pictures: Names of the files in reports/plots; those that the page knows and that are there are shown.
        gates: The metrics of the stages that check, by stage.
    """
    sections = dict(_sections(summary, gates))
    places = {heading: heading.lower().replace(" ", "-") for heading in sections}
    links = " · ".join(f'<a href="#{place}">{heading}</a>' for heading, place in places.items())
    parts = [lead(lead_text(summary)), f"<p>{links}</p>"]
    for heading, blocks in sections.items():
        parts.append(f'<h2 id="{places[heading]}">{heading}</h2>')
        for block in blocks:
            if isinstance(block, Table):
                parts.append(table(block.columns, block.rows))
            elif not block.endswith(".png"):
                parts.append(block)
            elif block in pictures:
                parts.append(f'<img src="{quote(f"{PLOTS.name}/{block}")}" alt="{escape(block.removesuffix(".png"))}">')
    return page(title(summary), parts, pictures=True)


def _sections(
    summary: Mapping[str, Any], gates: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, list[str | Table]]]:
    """Yield headings, each with what stands below: HTML, tables, and names of pictures."""
    sets = list(summary["protocols"])
    yield "What RegionCLIP gains", [lead(_GAIN), "summary.png", measured(summary)]
    yield "What is found", [lead(_FOUND), f"detections_{sets[0]}.png"]
    wrong: list[str | Table] = [lead(_WRONG)]
    for name in sets:
        wrong += [f"<h3>{escape(name)}</h3>", f"errors_{name}.png", mistakes(summary, name), f"worst_{name}.png"]
    yield "What goes wrong", wrong
    yield "What fine-tuning forgot", [lead(_FORGOT), forgotten(summary)]
    yield "Class by class", [f"{kind}_{name}.png" for name in sets for kind in ("zero_shot", "per_class")]
    seconds = [(stage, f"{value:.0f}") for stage, value in summary["seconds"].items()]
    training = ["learning_curves.png", "pseudo_labels.png", Table("lr", ("stage", "seconds"), seconds)]
    yield "How it was trained", training
    detections = [f"detections@{name}" for name in sets]
    rows = [_gate(stage, gates.get(stage, {})) for stage in (*gates, *detections)]
    checked = table(("gate", "expectations", "warnings", "findings", "pages"), rows)
    yield "The data and their checks", [lead(_DATA), boxes_used(summary), checked]
    files = [_link(file.name) for file in (SUMMARY, SUMMARY_TABLE)]
    yield "The numbers as files", [lead(_FILES), f"<p>{' · '.join(files)}</p>"]


def _gate(stage: str, found: Mapping[str, Any]) -> list[Any]:
    name = file_name(stage)
    places = (f"{CHECKS.name}/{name}.json", f"{DATA_DOCS.name}/{name}/index.html")
    return [stage, found.get("expectations"), found.get("warnings"), *map(_link, places)]


def _link(place: str) -> Markup:
    return Markup(f'<a href="{quote(place)}">{escape(place)}</a>')
