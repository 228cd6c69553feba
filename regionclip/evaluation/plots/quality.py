"""Pseudo-label quality: how precise the labels are at each confidence, and how many regions are kept there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from regionclip.evaluation.plots.style import CLIP, NOVEL, QUIET, REGIONCLIP, headline, only_grid, picture
from regionclip.evaluation.summary import percent

Bin = Mapping[str, float | int | None]


def pseudo_label_quality(by_confidence: Sequence[Bin], out_path: str | Path) -> None:
    """Draw precision against the teacher's confidence above the number of regions, kept and left out, as PNG.

    ``by_confidence`` is the list of that name from ``pseudo_label_precision``.
    """
    with picture(out_path, 8.0, 6.2) as figure:
        regions, kept = (sum(int(part[key] or 0) for part in by_confidence) for key in ("regions", "kept"))
        share = percent(kept / regions if regions else None)
        note = f"{kept:,} of {regions:,} regions kept ({share} %), against the scenes' true objects"
        headline(figure, "Pseudo-label quality", note)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        _precision(above, by_confidence)
        _counts(below, by_confidence)


def _precision(axes: Axes, bins: Sequence[Bin]) -> None:
    curves = (
        ("precision", REGIONCLIP, "-", "concept right, of regions on an object"),
        ("on_object", NOVEL, "--", "region on an object, of all regions"),
    )
    for key, colour, line, label in curves:
        points = [((part["low"] + part["high"]) / 2, 100 * part[key]) for part in bins if part[key] is not None]
        columns = zip(*points, strict=True) if points else ((), ())
        axes.plot(*columns, line, color=colour, marker="o", linewidth=2.2, label=label)
        for x, y in points[-1:]:
            beside = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(f"{y:.0f}", (x, y), **beside, color=colour, fontweight="bold")
    axes.set(xlim=(0, 1), ylim=(0, 104), ylabel="percent", title="How often is the label right?")
    axes.legend(loc="lower right")


def _counts(axes: Axes, bins: Sequence[Bin]) -> None:
    left = [part["low"] for part in bins]
    width = [0.94 * (part["high"] - part["low"]) for part in bins]
    kept = [int(part["kept"] or 0) for part in bins]
    rest = [int(part["regions"] or 0) - number for part, number in zip(bins, kept, strict=True)]
    axes.bar(left, kept, width, align="edge", color=REGIONCLIP, label="kept")
    axes.bar(left, rest, width, bottom=kept, align="edge", color=CLIP, label="left out")
    axes.set(xlabel="teacher's confidence in the concept", ylabel="regions", title="How many regions are kept?")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    only_grid(axes, "y")
    axes.legend(loc="upper left", bbox_to_anchor=(0.02, 1), labelcolor=QUIET)
