"""Bars by class: CLIP against RegionCLIP, novel classes marked, largest gain first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from regionclip.evaluation.plots.style import CLIP, NOVEL, QUIET, REGIONCLIP, headline, only_grid, picture, plain
from regionclip.evaluation.summary import percent

MOST_CLASSES = 60
"""More classes than this do not fit a page: the picture shows those that changed most and says so."""


def per_class_bars(
    clip: Mapping[str, float],
    regionclip: Mapping[str, float],
    novel_names: Collection[str],
    out_path: str | Path,
    title: str,
) -> None:
    """Draw two bars a class as PNG, novel classes first, each group by falling gain.

    Both models have by class a fraction 0..1 (AP50, top-1, ...); only classes in both are drawn.
    """
    names = sorted(
        set(clip) & set(regionclip), key=lambda name: (name not in novel_names, clip[name] - regionclip[name], name)
    )
    note = f"{len(names)} classes, novel first, largest gain first"
    means = [
        percent(float(np.mean([values[name] for name in names])) if names else None) for values in (clip, regionclip)
    ]
    if len(names) > MOST_CLASSES:
        most = set(sorted(names, key=lambda name: (-abs(regionclip[name] - clip[name]), name))[:MOST_CLASSES])
        note = f"the {MOST_CLASSES} of {len(names)} classes that changed most, novel first"
        names = [name for name in names if name in most]
    with picture(out_path, 8.4, 1.45 + 0.36 * max(len(names), 2)) as figure:
        headline(figure, title, f"percent; {note}")
        axes = figure.add_subplot()
        rows = np.arange(len(names))
        for values, offset, colour in ((clip, -0.19, CLIP), (regionclip, 0.19, REGIONCLIP)):
            axes.barh(rows + offset, [100 * values[name] for name in names], height=0.36, color=colour)
        ends = [100 * max(regionclip[name], clip[name]) for name in names]
        longest = max([*ends, 1.0])
        for row, (name, end) in enumerate(zip(names, ends, strict=True)):
            gain = f"{100 * (regionclip[name] - clip[name]):+.1f}"
            axes.text(end + 0.01 * longest, row, gain, va="center", fontsize=8.5, color=QUIET, fontweight="bold")
        axes.set_yticks(rows, [f"★ {plain(name)}" if name in novel_names else plain(name) for name in names])
        for tick, name in zip(axes.get_yticklabels(), names, strict=True):
            if name in novel_names:
                tick.set(color=NOVEL, fontweight="bold")
        axes.set(xlim=(0, 1.09 * longest), ylim=(max(len(names), 1) - 0.4, -0.6))
        only_grid(axes, "x")
        labels = [f"{model} (mean {mean})" for model, mean in zip(("CLIP", "RegionCLIP"), means, strict=True)]
        axes.legend(axes.containers, labels, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
        axes.text(0, 1.005, "★ novel class", transform=axes.transAxes, color=NOVEL, fontweight="bold", va="bottom")
