"""Figures of what changes with a strength, and of eigenvalues."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from wna_jax.figures.parts import COLOURS, QUIET, sheet
from wna_jax.statistics import Interval, wilson_interval
from wna_jax.studies.spike_triggered import Covariance


class Curve(NamedTuple):
    """Something measured as a function of a strength."""

    x: Sequence[float]
    y: np.ndarray
    interval: Interval | None = None
    published: Sequence[float] | None = None
    """Published values at the same x, drawn as hollow points; NaN where there is none."""

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

    Args:
        panels: the curves by panel title and by name; a name has one colour in all panels.
        x_label: the strength.
        y_label: what has the share.
        title: what was done.
        level: a dotted line to compare with, such as chance.
        x_scale: a scale of matplotlib: linear, log, or symlog (with ticks at the measured strengths).
        y_scale: likewise.
        y_limits: those of shares by default; None for what the values need.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = sheet(4.6 * columns + 0.6, 3.4 * rows + 0.5, title)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    _hide(axes.flat[len(panels) :])
    for ax, (heading, panel) in zip(axes.flat, panels.items(), strict=False):
        for name, curve in panel.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            ax.plot(curve.x, curve.y, "o-", markersize=3, linewidth=1.3, color=colour, label=name)
            if curve.interval is not None:
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
            ax.set_xticks(measured, [f"{x:g}" for x in measured], minor=False)
            ax.set_xticks([], minor=True)
        else:
            ax.set_xscale(x_scale)
        ax.set_xlabel(x_label, fontsize=8)
        _head(ax, heading, 9, 8)
    for ax in axes[:, 0]:
        ax.set_yscale(y_scale)
        ax.set_ylabel(y_label, fontsize=8)
        ax.set_ylim(*y_limits)  # shared by all axes, so set after everything is drawn
    handles = {h.get_label(): h for ax in figure.axes for h in ax.get_legend_handles_labels()[0]}
    figure.legend(handles=handles.values(), loc="outside lower left", ncols=2 * columns, fontsize=7, frameon=False)
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

    Args:
        panels: the curves by row label, by panel title and by the member's number, which its colour shows.
        x_label: the strength.
        y_label: what has the share.
        member_label: what the members' numbers are.
        title: what was done.
        note: in small print below.
    """
    columns = max(map(len, panels.values()))
    figure = sheet(1.45 * columns + 1.7, 1.5 * len(panels) + 1.1, title, note)
    members = [number for row in panels.values() for family in row.values() for number in family]
    colours = ScalarMappable(Normalize(min(members), max(members)), "viridis")
    grid = figure.subplots(len(panels), columns, squeeze=False, sharex=True, sharey=True)
    for line, (label, row) in zip(grid, panels.items(), strict=True):
        _hide(line[len(row) :])
        for ax, (heading, family) in zip(line, row.items(), strict=False):
            for number, curve in family.items():
                colour = colours.to_rgba(np.asarray(number))
                ax.plot(curve.x, curve.y, linewidth=1, color=colour)
                if curve.interval is not None:
                    ax.fill_between(curve.x, *curve.interval, color=colour, alpha=0.2, linewidth=0)
            ax.axhline(0.5, color=QUIET, linewidth=0.6, linestyle=":")
            ax.set_ylim(-0.03, 1.03)
            _head(ax, heading, 8, 7)
        line[0].set_ylabel(f"{label}\n{y_label}", fontsize=8, parse_math=False)
    for ax in grid[-1]:
        ax.set_xlabel(x_label, fontsize=8)
    bar = figure.colorbar(colours, ax=grid, shrink=0.6, fraction=0.02, pad=0.01, aspect=25)
    bar.set_label(member_label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def spectra(spectra: Mapping[str, Covariance], title: str, note: str = "", *, columns: int = 4) -> Figure:
    """Eigenvalues of spike-triggered covariances, one panel each, with the band in which those of mere noise lie.

    Args:
        spectra: by panel title.
        title: what was done.
        note: in small print below.
        columns: panels per row.
    """
    rows = math.ceil(len(spectra) / columns)
    figure = sheet(2.6 * columns + 0.4, 2.1 * rows + 0.9, title, note)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
    _hide(axes.flat[len(spectra) :])
    for ax, (heading, found) in zip(axes.flat, spectra.items(), strict=False):
        rank = np.arange(1, len(found.eigenvalues) + 1)
        ax.axhspan(found.low, found.high, color=QUIET, alpha=0.2, linewidth=0, label="noise, 95%")
        ax.plot(rank, found.eigenvalues, "o", markersize=1.5, color=QUIET)
        for name, indices, colour in (
            ("excitatory", found.excitatory, COLOURS[1]),
            ("suppressive", found.suppressive, COLOURS[0]),
        ):
            ax.plot(rank[indices], found.eigenvalues[indices], "o", markersize=4, color=colour, label=name)
        _head(ax, heading, 8, 7)
    for ax in axes[:, 0]:
        ax.set_ylabel("eigenvalue", fontsize=8)
    figure.legend(
        handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower right", ncols=3, fontsize=7, frameon=False
    )
    return figure


def _hide(unused: Iterable[Axes]) -> None:
    for ax in unused:
        ax.set_visible(False)


def _head(ax: Axes, heading: str, fontsize: int, tick_fontsize: int) -> None:
    ax.set_title(heading, loc="left", fontsize=fontsize, parse_math=False)
    ax.tick_params(labelsize=tick_fontsize)
    ax.spines[["top", "right"]].set_visible(False)
