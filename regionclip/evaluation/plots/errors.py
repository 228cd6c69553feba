"""What each kind of mistake costs: CLIP beside RegionCLIP, a panel a group of classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from regionclip.evaluation.detection_errors import KINDS
from regionclip.evaluation.plots.style import CLIP, QUIET, REGIONCLIP, headline, only_grid, picture
from regionclip.evaluation.summary import percent

_COLOURS = {"CLIP": CLIP, "RegionCLIP": REGIONCLIP}


def error_bars(numbers: Mapping[str, Mapping[str, Any]], out_path: str | Path, title: str) -> None:
    """Draw the points of AP50 that each kind of mistake costs, as PNG.

    ``numbers``: CLIP and RegionCLIP, or one of them, to what `error_numbers` returns. Without novel classes there is
    one panel, of all.
    """
    novel = any(of["ap50"]["novel"] is not None for of in numbers.values())
    kinds = [kind for kind in KINDS if novel or kind not in ("novel_as_base", "base_as_novel")]
    groups = ("novel", "base") if novel else ("all",)
    with picture(out_path, 4.2 + 4.2 * len(groups), 1.9 + 0.52 * len(kinds)) as figure:
        headline(figure, title, "points that AP50 would gain if this kind of mistake alone were mended")
        panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
        for axes, group in zip(panels, groups, strict=True):
            found = {model: {kind: of["ap50_lost"][kind][group] for kind in kinds} for model, of in numbers.items()}
            _panel(axes, found)
            reached = ", ".join(f"{model} {percent(of['ap50'][group])}" for model, of in numbers.items())
            axes.set_title(f"{group} classes" if novel else "all classes", pad=18)
            axes.text(0, 1.01, f"AP50: {reached}", transform=axes.transAxes, color=QUIET, fontsize=9, va="bottom")
        panels[0].set_yticks(range(len(kinds)), [KINDS[kind] for kind in kinds])
        panels[0].invert_yaxis()
        figure.legend(panels[0].containers, list(numbers), loc="upper right", ncols=2, borderaxespad=0.9)


def _panel(axes: Axes, found: Mapping[str, Mapping[str, float | None]]) -> None:
    height = 0.8 / max(len(found), 1)
    longest = max([100 * (value or 0) for of in found.values() for value in of.values()] + [1.0])
    for place, (model, of) in enumerate(found.items()):
        rows = [row + (place - (len(found) - 1) / 2) * height for row in range(len(of))]
        axes.barh(rows, [100 * (value or 0) for value in of.values()], 0.94 * height, color=_COLOURS[model])
        for row, value in zip(rows, of.values(), strict=True):
            end = 100 * max(value or 0, 0) + 0.012 * longest
            axes.text(end, row, percent(value), va="center", fontsize=8.5, color=QUIET)
    # Of panels that share an axis, the longest bar counts.
    axes.set_xlim(right=max(axes.get_xlim()[1], 1.12 * longest))
    only_grid(axes, "x")
