"""Figures of what changes with a strength, of single values of groups, and grids of images and maps."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from wna_jax.figures.parts import QUIET, add_scale, bare, draw_image, draw_map, limit_of, outline
from wna_jax.receptive_fields import Covariance
from wna_jax.statistics import Interval

_COLOURS = (
    "#2f6db5",
    "#c8553d",
    "#3a8f5c",
    "#8a5fb0",
    "#b98a1f",
    "#4aa3a8",
    "#6b6b6b",
    "#222222",
    "#d98ab8",
    "#7a5230",
)


class Curve(NamedTuple):
    """Something measured as a function of a strength."""

    x: Sequence[float]
    y: np.ndarray
    interval: Interval
    published: Sequence[float] | None = None
    """What others print at the same x, drawn as hollow points; NaN where there is no figure."""


def curves(
    panels: Mapping[str, Mapping[str, Curve]],
    x_label: str,
    y_label: str,
    title: str,
    *,
    level: float | None = None,
    x_scale: str = "linear",
    y_limits: tuple[float | None, float | None] = (-0.03, 1.03),
) -> Figure:
    """Shares, such as accuracies, as functions of one strength, with their intervals; panels side by side.

    Args:
        panels: by the panel's title, the curves by their names; a name has one colour in all panels.
        x_label: the strength.
        y_label: what has the share.
        title: what was done.
        level: a dotted line to compare with, such as chance.
        x_scale: as matplotlib calls it: linear, log, symlog.
        y_limits: of shares by default; None for what the values need.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    figure = Figure(figsize=(4.6 * len(panels) + 0.6, 3.9), layout="constrained")
    figure.suptitle(textwrap.fill(title, 62 * len(panels)), x=0.01, ha="left", fontsize=10, parse_math=False)
    for column, (ax, (heading, panel)) in enumerate(
        zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True)
    ):
        for name, curve in panel.items():
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            ax.plot(curve.x, curve.y, "o-", markersize=3, linewidth=1.3, color=colour, label=name)
            ax.fill_between(curve.x, *curve.interval, color=colour, alpha=0.15, linewidth=0)
            if curve.published is not None:
                hollow = {"markersize": 4, "markerfacecolor": "white", "linewidth": 0.8, "color": colour}
                ax.plot(curve.x, curve.published, "D:", label=f"{name}, published", **hollow)
        if level is not None:
            ax.axhline(level, color=QUIET, linewidth=0.8, linestyle=":")
        if x_scale == "symlog":
            ax.set_xscale(x_scale, linthresh=0.1)
            ax.set_xlim(left=-0.01)
        else:
            ax.set_xscale(x_scale)
        ax.set_ylim(*y_limits)
        ax.set_title(heading, loc="left", fontsize=9, parse_math=False)
        ax.set_xlabel(x_label, fontsize=8)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        if column == 0:
            ax.set_ylabel(y_label, fontsize=8)
    handles = {h.get_label(): h for ax in figure.axes for h in ax.get_legend_handles_labels()[0]}
    figure.legend(handles=handles.values(), loc="outside lower left", ncols=2 * len(panels), fontsize=7, frameon=False)
    return figure


def dots(columns: Mapping[str, Mapping[str, Sequence[float]]], y_label: str, title: str) -> Figure:
    """Single values of several groups, a column each measure: every value is a point, the line is the group's mean.

    Args:
        columns: by the measure, the values of each group; NaN where there is none.
        y_label: what the values are.
        title: what was done.
    """
    groups = list(dict.fromkeys(group for column in columns.values() for group in column))
    figure = Figure(figsize=(1.5 * len(columns) + 1.6, 3.9), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(11 * figure.get_figwidth())), x=0.01, ha="left", fontsize=10)
    ax = figure.subplots()
    for position, column in enumerate(columns.values()):
        for group, values in column.items():
            i = groups.index(group)
            at = position + 0.5 * (i - (len(groups) - 1) / 2)
            spread = at + 0.12 * np.linspace(-1, 1, len(values))
            label = group if position == 0 else None
            ax.plot(spread, values, "o", markersize=4, alpha=0.75, color=_COLOURS[i], label=label)
            ax.hlines(np.nanmean(values), at - 0.18, at + 0.18, color=_COLOURS[i], linewidth=1.5)
    ax.axhline(0, color=QUIET, linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(columns)), columns, fontsize=8)
    ax.set_ylabel(y_label, fontsize=8)
    ax.tick_params(axis="y", labelsize=8)
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


class Panel(NamedTuple):
    """One image, or one map in standard errors."""

    image: np.ndarray
    """[H, W, C]; masked where there is none."""
    heading: str = ""
    is_map: bool = False
    """In standard errors, on the diverging scale that all maps of its row share; else an image on the [0, 1] scale."""
    outline: np.ndarray | None = None
    """Pixels to put a line around, bool [H, W]."""
    caption: str = ""


def panels(
    rows: Mapping[str, Sequence[Panel | None]], title: str, note: str = "", units: Mapping[str, str] | None = None
) -> Figure:
    """A grid of images and maps, a labelled row each; the maps of a row share one scale with zero in the middle.

    Args:
        rows: by the row's label, its panels, None for a free place.
        title: what is seen.
        note: in small print below.
        units: of a row's maps, by the row's label, where these are not standard errors.
    """
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.35 * columns + 1.6, 1.62 * len(rows) + 0.8))
    letters = int(11.5 * figure.get_figwidth())
    figure.suptitle(textwrap.fill(title, letters), x=0.01, ha="left", fontsize=10.5, parse_math=False)
    figure.supxlabel(textwrap.fill(note, int(1.35 * letters)), x=0.01, ha="left", fontsize=8, color=QUIET)
    figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for ax in grid.flat:
        bare(ax)
    for line, (label, row) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(label, fontsize=8.5, parse_math=False)
        unit = (units or {}).get(label, "standard errors")
        maps = [np.ma.masked_array(panel.image) for panel in row if panel and panel.is_map]
        limit = limit_of(np.ma.stack(maps), 6.0 if unit == "standard errors" else 0.0) if maps else 1.0
        for ax, panel in zip(line, row, strict=False):
            if panel is None:
                continue
            if panel.is_map or not np.ma.count(panel.image):
                draw_map(ax, np.ma.masked_array(panel.image), limit, "empty")
            else:
                draw_image(ax, np.asarray(panel.image))
            if panel.outline is not None:
                outline(ax, panel.outline)
            ax.set_title(panel.heading, fontsize=7, pad=2, parse_math=False)
            ax.set_xlabel(panel.caption, fontsize=7, labelpad=2, parse_math=False)
        if maps:
            add_scale(figure, line, limit, maps[0].shape[-1], unit)
    return figure


def families(
    panels: Mapping[str, Mapping[str, Mapping[float, Curve]]],
    x_label: str,
    y_label: str,
    member_label: str,
    title: str,
    note: str = "",
) -> Figure:
    """Families of shares as functions of a strength, such as psychometric curves, a panel each, rows of panels.

    Args:
        panels: by row, by the panel's title, by the member's number (which its colour tells): the curve.
        x_label: the strength.
        y_label: what has the share.
        member_label: what the members' numbers are.
        title: what was done.
        note: in small print below.
    """
    columns = max(map(len, panels.values()))
    figure = Figure(figsize=(1.45 * columns + 1.7, 1.5 * len(panels) + 1.1), layout="constrained")
    letters = int(11.5 * figure.get_figwidth())
    figure.suptitle(textwrap.fill(title, letters), x=0.01, ha="left", fontsize=10, parse_math=False)
    figure.supxlabel(textwrap.fill(note, int(1.35 * letters)), x=0.01, ha="left", fontsize=8, color=QUIET)
    members = [number for row in panels.values() for family in row.values() for number in family]
    colours = ScalarMappable(Normalize(min(members), max(members)), "viridis")
    grid = figure.subplots(len(panels), columns, squeeze=False, sharex=True, sharey=True)
    for line, (label, row) in zip(grid, panels.items(), strict=True):
        for ax in line[len(row) :]:
            ax.set_visible(False)
        for ax, (heading, family) in zip(line, row.items(), strict=False):
            for number, curve in family.items():
                colour = colours.to_rgba(np.asarray(number))
                ax.plot(curve.x, curve.y, linewidth=1, color=colour)
                ax.fill_between(curve.x, *curve.interval, color=colour, alpha=0.2, linewidth=0)
            ax.axhline(0.5, color=QUIET, linewidth=0.6, linestyle=":")
            ax.set_title(heading, loc="left", fontsize=8, parse_math=False)
            ax.set_ylim(-0.03, 1.03)
            ax.tick_params(labelsize=7)
            ax.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(f"{label}\n{y_label}", fontsize=8, parse_math=False)
    for ax in grid[-1]:
        ax.set_xlabel(x_label, fontsize=8)
    bar = figure.colorbar(colours, ax=grid, shrink=0.6, fraction=0.02, pad=0.01, aspect=25)
    bar.set_label(member_label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def spectra(spectra: Mapping[str, Covariance], title: str, note: str = "", *, columns: int = 4) -> Figure:
    """Eigenvalues of spike-triggered covariances, a panel each, with the band in which those of mere noise lie.

    Args:
        spectra: by the panel's title.
        title: what was done.
        note: in small print below.
        columns: of panels.
    """
    rows = math.ceil(len(spectra) / columns)
    figure = Figure(figsize=(2.6 * columns + 0.4, 2.1 * rows + 0.9), layout="constrained")
    letters = int(11.5 * figure.get_figwidth())
    figure.suptitle(textwrap.fill(title, letters), x=0.01, ha="left", fontsize=10, parse_math=False)
    figure.supxlabel(textwrap.fill(note, int(1.35 * letters)), x=0.01, ha="left", fontsize=8, color=QUIET)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for ax in axes.flat[len(spectra) :]:
        ax.set_visible(False)
    for ax, (heading, found) in zip(axes.flat, spectra.items(), strict=False):
        rank = np.arange(1, len(found.eigenvalues) + 1)
        ax.axhspan(found.low, found.high, color=QUIET, alpha=0.2, linewidth=0, label="noise, 95%")
        ax.plot(rank, found.eigenvalues, "o", markersize=1.5, color=QUIET)
        for name, indices, colour in (
            ("excitatory", found.excitatory, _COLOURS[1]),
            ("suppressive", found.suppressive, _COLOURS[0]),
        ):
            ax.plot(rank[indices], found.eigenvalues[indices], "o", markersize=4, color=colour, label=name)
        ax.set_title(heading, loc="left", fontsize=8, parse_math=False)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("eigenvalue", fontsize=8)
    figure.legend(
        handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside lower right", ncols=3, fontsize=7, frameon=False
    )
    return figure


def colour_mapped(images: np.ndarray) -> np.ndarray:
    """Images [0, 1] as the mean of the red, green, blue and alpha of the colours that "viridis" gives them.

    So arXiv 1912.12106's notebooks read their maps back from a saved picture: all values lie between .40 and .76.
    """
    return colormaps["viridis"](images).mean(axis=-1)
