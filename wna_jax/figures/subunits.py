"""The subunits of units, beside their averages and how many there are."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wna_jax.figures.parts import BAD, COLOURS, QUIET
from wna_jax.figures.tiles import IN_COLOUR, Row, Tiles
from wna_jax.studies.subunits import Found

_CURVE = 1.5  # inches


def subunits(found: Found, title: str, captions: Mapping[int, str] | None = None, note: str = "") -> Figure:
    """A row per unit: its average, its subunits (the strongest first), and what numbers of subunits explain.

    Raises:
        ValueError: no unit has been fitted.
    """
    fitted, seen = found.subunits, found.view.seen
    columns = 1 + max(1, *(len(of.kernels) for of in fitted.values()))
    shape = next(iter(found.averages.values()))[seen].shape
    rows = [Row(f"unit {unit}\nfires {found.rates[unit]:.0%}", 0.2, 0.2) for unit in fitted]
    rows[-1] = rows[-1]._replace(below=0.35)
    read = "Left: spike-triggered average, in standard errors, from -largest to largest. Subunits: one scale per unit; "
    read += "w is the deviation of the subunit's drive, in deviations of the unit's response. Curve: share of the "
    read += "variance of held-out responses explained, the number that was chosen in red, differences from it ± 2 s.e. "
    note = read + note + f" {IN_COLOUR}" * (shape[-1] == 3)
    tiles = Tiles(rows, columns, shape, title, note, right=_CURVE + 0.6, left=0.0)
    for row, (unit, of) in enumerate(fitted.items()):
        average = found.averages[unit][seen]
        tiles.map(row, 0, np.ma.masked_array(average), float(np.abs(average).max()), "")
        tiles.above(row, 0, "average")
        largest = float(np.abs(of.kernels).max(initial=0))
        for m, (kernel, weight) in enumerate(zip(of.kernels, of.weights, strict=True)):
            tiles.map(row, 1 + m, np.ma.masked_array(kernel[seen]), largest, "")
            tiles.above(row, 1 + m, f"subunit {m + 1}: w {weight:.2f}")
        if not len(of.kernels):
            tiles.map(row, 1, np.ma.masked_all(shape), 1.0, "no subunit")
        tiles.below(row, 0, (captions or {}).get(unit, ""))
        ax = tiles.panel((row, row), columns * 1.25 + 0.4, _CURVE)
        numbers = np.arange(len(of.explained))
        ax.errorbar(numbers, of.explained, 2 * of.errors, color=COLOURS[0], marker=".", capsize=2, linewidth=1)
        ax.plot(len(of.kernels), of.explained[len(of.kernels)], "o", color=BAD, markersize=5, zorder=3)
        ax.set_ylim(min(-0.05, float(of.explained.min()) - 0.05), 1.05)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.tick_params(labelsize=6.5)
        ax.grid(axis="y", color=QUIET, alpha=0.2)
        ax.spines[["top", "right"]].set_visible(False)
        if row == 0:
            ax.set_title("held-out variance explained", fontsize=7, loc="left")
        if row == len(fitted) - 1:
            ax.set_xlabel("subunits", fontsize=7, labelpad=1)
    return tiles.figure
