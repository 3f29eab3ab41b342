"""Figures of trainings: what they learn by epoch, and how trainings with different seeds compare."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wna_jax.figures.parts import QUIET, sheet
from wna_jax.statistics import SeedMean

_COLOURS = {"train": "#c8553d", "validation": "#2f6db5"}


def learning_curves(history: Sequence[Mapping[str, float]], best_epoch: int, title: str) -> Figure:
    """Loss and accuracy by epoch, of the training images while the network learns and of the validation images.

    Args:
        history: a row each epoch: train_loss, train_accuracy, validation_loss, validation_accuracy.
        best_epoch: whose parameters were kept, from 1.
        title: what was trained.
    """
    figure = sheet(8.4, 3.4, title)
    epochs = np.arange(1, len(history) + 1)
    for ax, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, colour in _COLOURS.items():
            values = [row.get(f"{split}_{measure}", np.nan) for row in history]
            ax.plot(epochs, values, "o-", markersize=3, linewidth=1.3, color=colour, label=split)
        ax.axvline(best_epoch, color=QUIET, linewidth=0.8, linestyle=":", label="kept: best on validation")
        ax.set_title(measure + (", nats" if measure == "loss" else ""), loc="left", fontsize=9)
        ax.set_xlabel("epoch", fontsize=8)
        ax.set_xlim(0.5, len(history) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(
        handles=ax.get_legend_handles_labels()[0], loc="outside lower left", ncols=3, fontsize=7, frameon=False
    )
    return figure


def seed_means(
    columns: Mapping[str, Mapping[str, SeedMean]], title: str, published: Mapping[str, Mapping[str, float]]
) -> Figure:
    """A measure a panel, a setting a row: every seed a point, their mean with its interval, figures of others hollow.

    Args:
        columns: by the measure, by the setting.
        title: what was done.
        published: what others print, by the measure, by the setting.
    """
    names = list(next(iter(columns.values())))
    legend = (
        "Point: a seed. Bar: mean and its 95% interval (Student's t over seeds); a bar that reaches the rim is cut off."
    )
    legend += " Hollow: published." * bool(published)
    figure = sheet(3.2 * len(columns) + 2.2, 0.3 * len(names) + 1.6, title, legend)
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, (measure, rows) in zip(axes, columns.items(), strict=True):
        for place, name in enumerate(names):
            of = rows[name]
            ax.plot([of.low, of.high], [place, place], color="#2f6db5", linewidth=4, alpha=0.3, solid_capstyle="butt")
            ax.plot(of.mean, place, "|", color="#2f6db5", markersize=11, markeredgewidth=1.8)
            ax.plot(of.values, [place] * len(of.values), "o", color="#2f6db5", markersize=3.5)
            ax.annotate(f"{of.mean:.4f}", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7)
            if name in published.get(measure, {}):
                ax.plot(published[measure][name], place, "D", color="#c8553d", markerfacecolor="white", markersize=5)
        shown = [value for of in rows.values() for value in of.values] + list(published.get(measure, {}).values())
        margin = 0.15 * (max(shown) - min(shown)) + 1e-3
        ax.set_xlim(min(shown) - margin, max(shown) + margin)
        ax.set_title(measure, loc="left", fontsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.tick_params(labelsize=7)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", linewidth=0.4, color="#dddddd")
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure
