"""Figures of what changes with a strength, and of eigenvalues."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wna_jax.figures.parts import COLOURS, QUIET, head, legend_below, panel_sheet, sheet
from wna_jax.statistics import Interval, wilson_interval
from wna_jax.studies.spike_triggered import Covariance


class Curve(NamedTuple):
    """Something measured as a function of a strength; published values at the same x are NaN where there is none."""

    x: Sequence[float]
    y: np.ndarray
    interval: Interval | None = None
    published: Sequence[float] | None = None

    @classmethod
    def of_counts(
        cls, x: Sequence[float], counts: np.ndarray, trials: int, published: Sequence[float] | None = None
    ) -> "Curve":
        """The share of counts in a number of trials, with its 95% Wilson interval."""
        return cls(x, counts / trials, wilson_interval(counts, trials), published)


def curves(
    panels: Mapping[str, Mapping[str, Curve]],
    x_label: str,
    y_label: str,
    title: str,
    *,
    level: float | None = None,
    x_scale: str = "linear",
    y_scale: str = "linear",
    y_limits: tuple[float | None, float | None] = (-0.03, 1.03),
) -> Figure:
    """Shares, such as accuracies, as functions of one strength, with their intervals; three panels per row.

    A name has one colour in all panels; published values are hollow points. `level` is a dotted line to compare with,
    such as chance. The scales are matplotlib's: linear, log, or symlog (for x: with ticks at the measured strengths).
    `y_limits` are those of shares by default; None for what the values need.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    columns = min(3, len(panels))
    figure, axes = panel_sheet(len(panels), columns, (4.6, 3.4), (0.6, 0.5), title, sharey=True)
    for ax, (heading, panel) in zip(axes.flat, panels.items(), strict=False):
        with_intervals = sum(curve.interval is not None for curve in panel.values())
        side_by_side = x_scale == "log" and with_intervals > 2  # or they would cover each other
        for i, (name, curve) in enumerate(panel.items()):
            colour = COLOURS[names.index(name) % len(COLOURS)]
            x = np.asarray(curve.x) * 1.05 ** ((i - (len(panel) - 1) / 2) * side_by_side)
            ax.plot(x, curve.y, "o-", markersize=3, linewidth=1.3, color=colour, label=name)
            if curve.interval is not None and side_by_side:
                ax.vlines(x, *curve.interval, color=colour, alpha=0.5, linewidth=1)
            elif curve.interval is not None:
                ax.fill_between(curve.x, *curve.interval, color=colour, alpha=0.15, linewidth=0)
            if curve.published is not None:
                hollow = {"markersize": 4, "markerfacecolor": "white", "linewidth": 0.8, "color": colour}
                ax.plot(curve.x, curve.published, "D:", label=f"{name}, published", **hollow)
        if level is not None:
            ax.axhline(level, color=QUIET, linewidth=0.8, linestyle=":")
        if x_scale == "symlog":
            ax.set_xscale(x_scale, linthresh=0.1)
            ax.set_xlim(left=-0.01)
            measured = sorted({x for curve in panel.values() for x in curve.x})
            crowded = {"rotation": 90} if len(measured) > 6 else {}
            ax.set_xticks(measured, [f"{x:g}" for x in measured], minor=False, **crowded)
            ax.set_xticks([], minor=True)
        else:
            ax.set_xscale(x_scale)
            if x_scale == "linear" and all(isinstance(x, int) for curve in panel.values() for x in curve.x):
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel(x_label, fontsize=8)
        head(ax, heading, 9, 8)
    for ax in axes[:, 0]:
        ax.set_yscale(y_scale)
        ax.set_ylabel(y_label, fontsize=8)
        ax.set_ylim(*y_limits)  # shared by all axes, so set after everything is drawn
    legend_below(figure, 2 * columns)
    return figure


def families(
    panels: Mapping[str, Mapping[str, Mapping[float, Curve]]],
    x_label: str,
    y_label: str,
    member_label: str,
    title: str,
    note: str = "",
) -> Figure:
    """Families of shares as functions of a strength, such as psychometric curves: one panel per family.

    The curves are given by row label, by panel title and by the member's number, which `member_label` names and its
    colour shows.
    """
    columns = max(map(len, panels.values()))
    figure = sheet(1.45 * columns + 1.7, 1.5 * len(panels) + 1.1, title, note)
    members = [number for row in panels.values() for family in row.values() for number in family]
    colours = ScalarMappable(Normalize(min(members), max(members)), "viridis")
    grid = figure.subplots(len(panels), columns, squeeze=False, sharex=True, sharey=True)
    for line, (label, row) in zip(grid, panels.items(), strict=True):
        for unused in line[len(row) :]:
            unused.set_visible(False)
        for ax, (heading, family) in zip(line, row.items(), strict=False):
            for number, curve in family.items():
                colour = colours.to_rgba(np.asarray(number))
                ax.plot(curve.x, curve.y, linewidth=1, color=colour)
                if curve.interval is not None:
                    ax.fill_between(curve.x, *curve.interval, color=colour, alpha=0.2, linewidth=0)
            ax.axhline(0.5, color=QUIET, linewidth=0.6, linestyle=":")
            ax.set_ylim(-0.03, 1.03)
            head(ax, heading, 8, 7)
        line[0].set_ylabel(f"{label}\n{y_label}", fontsize=8, parse_math=False)
    for ax in grid[-1]:
        ax.set_xlabel(x_label, fontsize=8)
    bar = figure.colorbar(colours, ax=grid, shrink=0.6, fraction=0.02, pad=0.01, aspect=25)
    bar.set_label(member_label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def spectra(spectra: Mapping[str, Covariance], title: str, note: str = "") -> Figure:
    """Eigenvalues of spike-triggered covariances, one panel each, with the band in which those of mere noise lie."""
    figure, axes = panel_sheet(len(spectra), 4, (2.6, 2.1), (0.4, 0.9), title, note, sharex=True)
    for ax, (heading, found) in zip(axes.flat, spectra.items(), strict=False):
        rank = np.arange(1, len(found.eigenvalues) + 1)
        ax.axhspan(found.low, found.high, color=QUIET, alpha=0.2, linewidth=0, label="noise, 95%")
        ax.plot(rank, found.eigenvalues, "o", markersize=1.5, color=QUIET)
        kinds = {"excitatory": (found.excitatory, COLOURS[1]), "suppressive": (found.suppressive, COLOURS[0])}
        for name, (indices, colour) in kinds.items():
            ax.plot(rank[indices], found.eigenvalues[indices], "o", markersize=4, color=colour, label=name)
        head(ax, heading, 8, 7)
    for ax in axes[:, 0]:
        ax.set_ylabel("eigenvalue", fontsize=8)
    legend_below(figure, 3, "right")
    return figure
