"""Learning curves: one small panel for each logged value, raw and smoothed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from regionclip.evaluation.plots.style import QUIET, SERIES, headline, picture

Record = Mapping[str, float]
_COLUMNS = 4


def learning_curves(history: Mapping[str, Sequence[Record]], out_path: str | Path) -> None:
    """Draw what trainings logged as PNG: a row of panels for every training, a panel for every value.

    ``history`` has by training's name records {"step": int, value name: number}; a record may lack some values.
    """
    trainings = {name: _values(records) for name, records in history.items()}
    rows = {name: max(1, -(-len(values) // _COLUMNS)) for name, values in trainings.items()}
    columns = min(_COLUMNS, max((len(values) for values in trainings.values()), default=1) or 1)
    total = max(sum(rows.values()), 1)
    with picture(out_path, 1.2 + 3.1 * columns, 1.0 + 2.15 * total) as figure:
        headline(figure, "Learning curves", "thin: every logged step; thick: running mean, with its last value")
        grid = figure.add_gridspec(total, columns)
        top = 0
        for index, (training, values) in enumerate(trainings.items()):
            for place, (name, (steps, numbers)) in enumerate(values.items()):
                axes = figure.add_subplot(grid[top + place // columns, place % columns])
                _panel(axes, steps, numbers, SERIES[index % len(SERIES)])
                axes.set_title(f"{training}: {name}", fontsize=9.5)
            top += rows[training]


def _values(records: Sequence[Record]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = dict.fromkeys(name for record in records for name in record if name != "step")
    return {
        name: tuple(
            np.array([(record["step"], record[name]) for record in records if name in record], dtype=np.float64).T
        )
        for name in names
    }


def _panel(axes: Axes, steps: np.ndarray, numbers: np.ndarray, colour: str) -> None:
    width = max(1, len(numbers) // 20)
    smooth = pd.Series(numbers).rolling(width, center=True, min_periods=1).mean().to_numpy()
    axes.plot(steps, numbers, color=colour, alpha=0.35 if width > 1 else 0, linewidth=0.8)
    axes.plot(steps, smooth, color=colour, linewidth=2, marker="o" if len(numbers) < 3 else None)
    axes.text(
        1,
        1.03,
        f"{smooth[-1]:.3g}",
        transform=axes.transAxes,
        ha="right",
        fontsize=9.5,
        fontweight="bold",
        color=colour,
    )
    axes.tick_params(labelsize=8)
    axes.set_xlabel("step", fontsize=8, color=QUIET)
