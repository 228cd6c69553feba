"""The summary picture: what RegionCLIP gains over CLIP, in ten seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from regionclip.evaluation.plots.style import CLIP, INK, QUIET, REGIONCLIP, headline, only_grid, picture, plain
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.evaluation.summary import TUNED, percent, spoken

_Group = tuple[str, Sequence[str], str]


def _panels(summary: Mapping[str, Any]) -> list[tuple[str, str, list[_Group]]]:
    """Title, subtitle and groups (label, path and key of the models' numbers) of each panel."""
    protocols = {name: PROTOCOLS[protocol] for name, protocol in summary["protocols"].items()}
    novel = any(protocol.has_novel for protocol in protocols.values())
    kinds = {name: "novel" if protocol.has_novel else "all" for name, protocol in protocols.items()}
    recognised = [(f"{name}\n{of} classes", ("zero_shot", name, "gt"), f"top1_{of}") for name, of in kinds.items()]

    def detected(keys: Mapping[str, str]) -> list[_Group]:
        return [(f"{name}\n{spoken(key)}", ("open_vocabulary", name), key) for name, key in keys.items()]

    return [
        ("Recognises novel regions" if novel else "Recognises regions", "zero-shot top-1 on true boxes", recognised),
        (
            "Detects novel classes" if novel else "Detects",
            TUNED,
            detected({name: protocol.headline[0] for name, protocol in protocols.items()}),
        ),
        (
            "Keeps the base classes" if novel else "Detects, at IoU 0.50",
            TUNED,
            detected({name: protocol.base for name, protocol in protocols.items()}),
        ),
    ]


def summary_picture(summary: Mapping[str, Any], out_path: str | Path) -> None:
    """Draw the headline numbers of ``reports/summary.json`` as pairs of bars with the gain above them, as PNG.

    A number that is missing or None is drawn as a dash.
    """
    panels = _panels(summary)
    # Four pairs of bars have room in a panel; more make it wider.
    with picture(out_path, 12.4 * max(1.0, len(panels[0][2]) / 4), 5.0) as figure:
        profile = plain(summary.get("profile", ""))
        note = f"profile {profile}, seed {summary.get('seed', '–')}; percent; the bold number is RegionCLIP minus CLIP"
        headline(figure, "RegionCLIP against CLIP", note)
        for axes, (title, subtitle, groups) in zip(figure.subplots(1, len(panels)), panels, strict=True):
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
