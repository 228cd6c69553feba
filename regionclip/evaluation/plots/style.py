"""The look that all pictures share: colours for colour-blind eyes, quiet axes, PNG files that are reproducible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from regionclip.files import atomic_path

INK = "#1F2933"
QUIET = "#7B8794"
GRID = "#E4E7EB"
CLIP = "#A9B2BC"
REGIONCLIP = "#0072B2"
NOVEL = "#D55E00"
BASE = "#0072B2"
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7B8794")
"""Okabe and Ito's palette, "Color Universal Design" (2008), less its black and its yellow."""

_LONGEST = 48  # letters of a name
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is no formula
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": 100,
}


@contextmanager
def picture(
    path: str | Path, width: float, height: float, dpi: int = 130, colours: int | None = None
) -> Iterator[Figure]:
    """Give an empty figure to draw on; write it as PNG, atomically, if the block succeeds.

    Args:
        path: The PNG file.
        width: Inches.
        height: Inches.
        dpi: Dots an inch.
        colours: So many at most, for pictures of many scenes, whose files would be megabytes.
    """
    with rc_context():
        # Defaults first: a user's matplotlibrc must not change the bytes.
        rcdefaults()
        rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with atomic_path(path) as beside:
            figure.savefig(beside, format="png", dpi=dpi, metadata={"Software": None})
            if colours is not None:
                with Image.open(beside) as drawn:
                    few = drawn.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
                few.save(beside, format="PNG", optimize=True)


def headline(figure: Figure, title: str, subtitle: str = "") -> None:
    """Put a bold title, and a quiet line below it, at the left edge of a figure."""
    height = figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - (0.72 if subtitle else 0.45) / height))
    figure.text(0.012, 1 - 0.14 / height, title, fontsize=15, fontweight="bold", va="top")
    if subtitle:
        figure.text(0.012, 1 - 0.46 / height, subtitle, fontsize=10, color=QUIET, va="top")


def plain(name: str) -> str:
    """Return a name that comes from data as one line that fits: without what no font draws, and not too long."""
    line = "".join(letter if letter.isprintable() else "�" for letter in name[: _LONGEST + 1])
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def only_grid(axes: Axes, axis: str) -> None:
    """Keep the grid lines of one axis ("x" or "y")."""
    axes.grid(visible=False)
    axes.grid(visible=True, axis=axis)
