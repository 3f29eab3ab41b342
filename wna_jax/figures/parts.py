"""Building blocks of figures: titled sheets, panels and their legends, colours, the scale of maps."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

DIVERGING = "RdBu_r"
COLOURS = (
    *("#2f6db5", "#c8553d", "#3a8f5c", "#8a5fb0", "#b98a1f"),
    *("#4aa3a8", "#6b6b6b", "#222222", "#d98ab8", "#7a5230"),
)
GOOD, BAD, QUIET = "#1a7f37", "#b3261e", "#6b6b6b"


def sheet(width: float, height: float, title: str, note: str = "") -> Figure:
    """An empty figure, in inches, with a title, and how to read it in small print below; both wrapped to its width.

    Both are its label, too: what is said of it where it cannot be seen.
    """
    figure = Figure(figsize=(width, height), layout="constrained", label=f"{title}. {note}".strip())
    figure.suptitle(textwrap.fill(title, int(11.5 * width)), x=0.01, ha="left", fontsize=10, parse_math=False)
    if note:
        figure.supxlabel(textwrap.fill(note, int(15 * width)), x=0.01, ha="left", fontsize=8, color=QUIET)
    return figure


def panel_sheet(
    count: int, columns: int, size: tuple[float, float], frame: tuple[float, float], *texts: str, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """A `sheet` (with its title and note) for panels of a size, and their axes [rows, columns]; unused ones are hidden.

    `size` and `frame`, what is needed beside the panels, are (width, height) in inches; `shared` says which axes are.
    """
    rows = math.ceil(count / columns)
    figure = sheet(size[0] * columns + frame[0], size[1] * rows + frame[1], *texts)
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr,call-arg] # inches: the title stands apart
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return figure, axes


def head(ax: Axes, heading: str, fontsize: int, tick_fontsize: int) -> None:
    """Gives a panel its heading, small ticks, and a frame that is open above and to the right."""
    ax.set_title(heading, loc="left", fontsize=fontsize, parse_math=False)
    ax.tick_params(labelsize=tick_fontsize)
    ax.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, columns: int, side: str = "left") -> None:
    """One legend for all panels; what has one label has one entry."""
    handles = {handle.get_label(): handle for ax in figure.axes for handle in ax.get_legend_handles_labels()[0]}
    style = {"ncols": columns, "fontsize": 7, "frameon": False}
    figure.legend(handles=list(handles.values()), loc=f"outside lower {side}", **style)


def save(figure: Figure, path: Path | IO[bytes], **options: Any) -> None:
    """Writes a figure in the format of the path's suffix, or of `format` to an open file.

    Its texts are text, never markup: any class has any name.
    Only the numbers at logarithmic axes, which matplotlib writes itself, are formulas. In a PDF fonts are embedded as
    TrueType, which journals ask for.
    """
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    ticks = [(axis, axis.get_ticklabels(which="both")) for axis in axes]
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for axis, labels in ticks:
        for label in labels if isinstance(axis.get_major_formatter(), LogFormatter | ScalarFormatter) else ():
            label.set_parse_math(True)
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(path, **{"dpi": 150} | options)


def all_of(class_names: Sequence[str]) -> dict[int, int]:
    """Map k is of class k, for figures of all classes."""
    return {k: k for k in range(len(class_names))}


def percent(share: float) -> str:
    """A share as a text, in as many digits as it takes: 100% is all, and 0% none."""
    if share < 0.01 or share == 1:
        return f"{100 * share:.2g}%" if share < 1 else "100%"
    rest = 100 * (1 - share)
    return f"{100 * share:.{max(1, -int(f'{rest:.0e}'.partition('e')[2]))}f}%"


def limit_of(z_khwc: np.ma.MaskedArray, least: float = 6.0) -> float:
    """End of the colour scale: the 99.5th percentile of |z|, and at least `least`, so that noise stays pale."""
    strength = np.abs(z_khwc.compressed())
    return max(least, float(np.quantile(strength, 0.995))) if strength.size else 6.0
