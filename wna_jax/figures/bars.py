"""Figures of bars and points: classes of noise images, speeds of programs, single values of groups."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wna_jax.figures.parts import COLOURS, QUIET, head, legend_below, percent, sheet
from wna_jax.statistics import Interval

_COUNT: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7, "zorder": 0.8}
_COUNT |= {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8}}  # the line of equal shares ends beside it


def shares(
    counts: np.ndarray,
    errors: np.ndarray,
    mean_probabilities: np.ndarray | None,
    class_names: Sequence[str],
    title: str,
    whole: tuple[int, int] | None = None,
) -> Figure:
    """The share of noise samples that the network calls each class, on a logarithmic scale, with the counts.

    `errors` [K] are standard errors of the shares, masked where unknown; mean class probabilities [K] are drawn as
    points, if any are given. `whole` are the numbers of all samples and all classes; if the counts are those of
    some classes, the title says how many samples are not shown.
    """
    total, num_classes = (counts.sum(), len(class_names)) if whole is None else whole
    if (others := num_classes - len(class_names)) > 0:
        rest = percent(1 - counts.sum() / total)
        title += f"; {rest} of the samples are called one of the {others} classes not shown"
    figure = sheet(max(5.0, 0.75 * len(class_names) + 1.5), 3.7, title)
    ax = figure.subplots()
    position, share, high = np.arange(len(class_names)), counts / total, 2 * np.ma.filled(errors, 0)
    ax.bar(position, share, color="#7a9cc6", label="decisions: share ± 2 s.e.")
    ax.errorbar(position, share, (np.minimum(high, share), high), fmt="none", ecolor="#33527a", elinewidth=1.2)
    if mean_probabilities is not None:
        ax.plot(position, mean_probabilities, "o", color="#222222", markersize=4, label="mean probability")
    floor = 0.3 / total
    ax.set(yscale="log", ylim=(floor, 1), yticks=[tick for tick in 10.0 ** np.arange(-12, 1) if tick >= floor])
    means = np.zeros(len(counts)) if mean_probabilities is None else mean_probabilities
    for k, count in enumerate(counts):
        height = min(max(share[k] + high[k], floor), 1.0)
        if height < means[k] < 4 * height:
            height = means[k]  # the count is written above the point, not over it
        ax.annotate(f"{count:,}", (k, height), (0, 2), textcoords="offset points", **_COUNT)
    ax.axhline(1 / num_classes, color=QUIET, linewidth=0.8, linestyle=":", label="equal shares", zorder=0.5)
    ax.set_xticks(position, class_names, rotation=30 if max(map(len, class_names)) > 4 else 0, fontsize=8)
    ax.set_ylabel(f"share of {total:,} noise images", fontsize=8)
    ax.tick_params(axis="y", labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    legend_below(figure, 3)
    return figure


def speeds(
    rates: Mapping[str, Sequence[float]], captions: Sequence[str], ours: Collection[str], title: str, note: str
) -> Figure:
    """The speeds of programs: one bar per variant, its median rate, one point per round, and a caption beside it.

    `rates` has the samples per second of each round, by variant, from the top down. The variants in `ours` are
    highlighted; `note` says how, and on which hardware.
    """
    figure = sheet(9.0, 0.5 * len(rates) + 1.25, title)
    ax = figure.subplots()
    for row, ((name, values), caption) in enumerate(zip(rates.items(), captions, strict=True)):
        color = "#2f6db5" if name in ours else "#b9bec6"
        ax.barh(row, np.median(values), color=color, height=0.62)
        ax.plot(values, [row] * len(values), "o", color="#222222", markersize=2.5, alpha=0.6)
        ax.annotate(caption, (max(values), row), (6, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_xlim(0, 1.8 * max(map(max, rates.values())))
    ax.set_yticks(range(len(rates)), rates, fontsize=9)
    for label in ax.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in ours else "normal")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set_xlabel(note, fontsize=8, color=QUIET, loc="left")
    ax.tick_params(axis="x", labelsize=8, colors=QUIET)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


def point_ranges(
    panels: Mapping[str, Mapping[str, tuple[float, Interval]]], ours: Collection[str], title: str, note: str = ""
) -> Figure:
    """Values with their intervals, one row per method from the top down, one panel per measure.

    The methods in `ours` are highlighted, with a faint line through the first one's value. All panels have the same
    methods.
    """
    names = list(next(iter(panels.values())))
    figure = sheet(3.4 * len(panels) + 2.4, 0.26 * len(names) + 1.5, title, note)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (heading, values) in zip(axes, panels.items(), strict=True):
        for row, (name, (value, interval)) in enumerate(values.items()):
            colour = COLOURS[0] if name in ours else QUIET
            ax.hlines(row, interval.low, interval.high, color=colour, linewidth=1.5)
            ax.plot(value, row, "o", color=colour, markersize=4.5)
            ax.annotate(
                f"{value:.3f}", (float(interval.high), row), (5, 0), textcoords="offset points", va="center", fontsize=7
            )
        ax.axvline(values[names[0]][0], color=COLOURS[0], linewidth=0.6, alpha=0.5)
        ax.margins(x=0.14)
        head(ax, heading, 9, 8)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    for label in axes[0].get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in ours else "normal")
    return figure


def dots(columns: Mapping[str, Mapping[str, Sequence[float]]], y_label: str, title: str) -> Figure:
    """Single values by measure (a column each) and group, NaN where there is none; the line is the group's mean."""
    groups = list(dict.fromkeys(group for column in columns.values() for group in column))
    figure = sheet(1.5 * len(columns) + 1.6, 3.9, title)
    ax = figure.subplots()
    for position, column in enumerate(columns.values()):
        for group, values in column.items():
            i = groups.index(group)
            at = position + 0.5 * (i - (len(groups) - 1) / 2)
            spread = at + 0.12 * np.linspace(-1, 1, len(values))
            label = group if position == 0 else None
            ax.plot(spread, values, "o", markersize=4, alpha=0.75, color=COLOURS[i], label=label)
            ax.hlines(np.nanmean(values), at - 0.18, at + 0.18, color=COLOURS[i], linewidth=1.5)
    ax.axhline(0, color=QUIET, linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(columns)), columns, fontsize=8)
    ax.set_ylabel(y_label, fontsize=8)
    ax.tick_params(axis="y", labelsize=8)
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
