"""The summary picture: what RegionCLIP gains over CLIP, in ten seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from regionclip.evaluation.plots.style import (
    CLIP,
    INK,
    QUIET,
    REGIONCLIP,
    headline,
    only_grid,
    percent,
    picture,
    plain,
)

_PANELS: tuple[tuple[str, str, Sequence[tuple[str, tuple[str, ...], str]]], ...] = (
    (
        "Recognises novel regions",
        "zero-shot top-1 on true boxes of novel classes",
        (("COCO", ("zero_shot", "coco", "gt"), "top1_novel"), ("LVIS", ("zero_shot", "lvis", "gt"), "top1_novel")),
    ),
    (
        "Detects novel classes",
        "after fine-tuning on base boxes",
        (
            ("COCO\nnovel AP50", ("open_vocabulary", "coco"), "ap50_novel"),
            ("LVIS\nrare AP", ("open_vocabulary", "lvis"), "apr"),
        ),
    ),
    (
        "Keeps the base classes",
        "after fine-tuning on base boxes",
        (
            ("COCO\nbase AP50", ("open_vocabulary", "coco"), "ap50_base"),
            ("LVIS\nfrequent AP", ("open_vocabulary", "lvis"), "apf"),
        ),
    ),
)


def summary_picture(summary: Mapping[str, Any], out_path: str | Path) -> None:
    """Draw the headline numbers of ``reports/summary.json`` as pairs of bars with the gain above them.

    Args:
        summary: The parsed file; a number that is missing or None is drawn as a dash.
        out_path: The PNG file.
    """
    with picture(out_path, 12.4, 5.0) as figure:
        profile = plain(summary.get("profile", ""))
        note = f"profile {profile}, seed {summary.get('seed', '–')}; percent; the bold number is RegionCLIP minus CLIP"
        headline(figure, "RegionCLIP against CLIP", note)
        for axes, (title, subtitle, groups) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
            pairs = [
                (label, *(_number(summary, [*path, model, key]) for model in ("clip", "regionclip")))
                for label, path, key in groups
            ]
            _panel(axes, pairs)
            axes.set_title(title, pad=22)
            axes.text(0, 1.025, subtitle, transform=axes.transAxes, color=QUIET, fontsize=9.5, va="bottom")
        handles = figure.axes[0].containers
        figure.legend(handles[:2], ["CLIP", "RegionCLIP"], loc="upper right", ncols=2, fontsize=12, borderaxespad=0.9)


def _number(summary: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = summary
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _panel(axes: Axes, pairs: Sequence[tuple[str, float | None, float | None]]) -> None:
    width = 0.38
    top = max([100 * (value or 0) for _, *values in pairs for value in values] + [5.0])
    for shift, column, colour in ((-width / 2, 1, CLIP), (width / 2, 2, REGIONCLIP)):
        heights = [100 * (pair[column] or 0) for pair in pairs]
        places = [place + shift for place in range(len(pairs))]
        axes.bar(places, heights, 0.94 * width, color=colour)
        for place, height, pair in zip(places, heights, pairs, strict=True):
            axes.text(place, height + 0.012 * top, percent(pair[column]), ha="center", va="bottom", fontsize=10)
    for place, (_, clip, regionclip) in enumerate(pairs):
        if clip is not None and regionclip is not None:
            height = 100 * max(clip, regionclip) + 0.1 * top
            gain = f"{100 * (regionclip - clip):+.1f}"
            axes.text(place, height, gain, ha="center", va="bottom", fontsize=17, fontweight="bold", color=INK)
    axes.set(xlim=(-0.55, len(pairs) - 0.45), ylim=(0, 1.25 * top), xticks=range(len(pairs)))
    axes.set_xticklabels([label for label, *_ in pairs], fontsize=11)
    only_grid(axes, "y")
