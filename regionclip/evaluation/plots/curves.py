"""Learning curves: one small panel for each logged value, raw and smoothed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from regionclip.evaluation.plots.style import QUIET, SERIES, headline, picture

Record = Mapping[str, float]
_COLUMNS = 4


def learning_curves(history: Mapping[str, Sequence[Record]], out_path: str | Path) -> None:
    """Draw what trainings logged as PNG: a row of panels for every training, a panel for every value.

    ``history`` has by training's name records {"step": int, value name: number}; a record may lack some values.
    """
    trainings = {
        name: pd.DataFrame(records or [{"step": 0}]).set_index("step").dropna(axis=1, how="all")
        for name, records in history.items()
    }
    rows = {name: max(1, -(-values.shape[1] // _COLUMNS)) for name, values in trainings.items()}
    columns = min(_COLUMNS, max((values.shape[1] for values in trainings.values()), default=1) or 1)
    total = max(sum(rows.values()), 1)
    with picture(out_path, 1.2 + 3.1 * columns, 1.0 + 2.15 * total) as figure:
        headline(figure, "Learning curves", "thin: every logged step; thick: running mean, with its last value")
        grid = figure.add_gridspec(total, columns)
        top = 0
        for index, (training, values) in enumerate(trainings.items()):
            for place, (name, numbers) in enumerate(values.items()):
                axes = figure.add_subplot(grid[top + place // columns, place % columns])
                _panel(axes, numbers.dropna(), SERIES[index % len(SERIES)])
                axes.set_title(f"{training}: {name}", fontsize=8)
            top += rows[training]


def _panel(axes: Axes, numbers: pd.Series, colour: str) -> None:
    width = max(1, len(numbers) // 20)
    smooth = numbers.rolling(width, center=True, min_periods=1).mean()
    axes.plot(numbers.index, numbers, color=colour, alpha=0.35 if width > 1 else 0, linewidth=0.8)
    axes.plot(smooth.index, smooth, color=colour, linewidth=2, marker="o" if len(numbers) < 3 else None)
    axes.set_title(f"{smooth.iloc[-1]:.3g}", loc="right", fontsize=8, color=colour)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("step", fontsize=8, color=QUIET)
