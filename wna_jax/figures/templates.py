"""Figures of templates as classifiers: accuracies and confusion matrices."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wna_jax.figures.parts import QUIET, panel_sheet, sheet


def template_accuracies(rows: Sequence[Mapping[str, Any]], chance: float, title: str) -> Figure:
    """Test accuracy of each kind of template with its 95% interval, grouped by the noise that it comes from.

    Each row has noise, response, variant, test_accuracy, interval_95 and authors_rule_test_accuracy.
    """
    figure = sheet(8.5, 0.21 * len(rows) + 1.5, title)
    ax = figure.subplots()
    names = list(dict.fromkeys(row["noise"] for row in rows))
    rows = sorted(rows, key=lambda row: names.index(row["noise"]))
    group = np.array([names.index(row["noise"]) for row in rows])
    places, colors = np.arange(len(rows)) + 0.7 * group, [f"C{number}" for number in group]
    accuracy, authors = ([row[of] for row in rows] for of in ("test_accuracy", "authors_rule_test_accuracy"))
    low, high = np.transpose([row["interval_95"] for row in rows])
    ax.hlines(places, low, high, colors, linewidth=3, alpha=0.5)
    ax.scatter(accuracy, places, s=16, c=colors, label="chosen rule, 95% interval")
    ax.scatter(authors, places, s=16, c=QUIET, marker="x", linewidths=1, label="the authors' cosine rule")
    for value, end, place in zip(accuracy, high, places, strict=True):
        ax.annotate(f"{value:.3f}", (end, place), (4, 0), textcoords="offset points", va="center", fontsize=6.5)
    for number, name in enumerate(names):
        at = 1.04, places[group == number].mean()
        ax.text(*at, name, transform=ax.get_yaxis_transform(), fontsize=9, color=f"C{number}", va="center")
    ax.axvline(chance, color=QUIET, linewidth=0.8, linestyle=":", label=f"chance {chance:g}")
    ax.set_yticks(places, [f"{row['response']} {row['variant']}".strip() for row in rows], fontsize=7)
    ax.set_ylim(places[-1] + 1.5, -1)
    ax.set_xlim(0, 1)
    ax.set_xlabel("test accuracy", fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", length=0)
    ax.legend(fontsize=7, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


def confusions(matrices: Mapping[str, np.ndarray], class_names: Sequence[str], title: str) -> Figure:
    """Confusion matrices by heading, counts [K, K]: row the true class, column the answer, in per cent of the class."""
    shares = {
        heading: np.ma.filled(counts / np.ma.masked_equal(counts.sum(axis=1, keepdims=True), 0), np.nan)
        for heading, counts in matrices.items()
    }
    return tables(shares, class_names, title, "true class", "answer")


def tables(
    shares: Mapping[str, np.ndarray], names: Sequence[str], title: str, row_label: str, column_label: str
) -> Figure:
    """Square tables of shares [K, K], such as accuracies, side by side, in per cent; `names` are of rows and columns.

    A row of NaN is labelled as without images.
    """
    columns, side = min(2, len(shares)), 0.32 * len(names) + 0.9
    figure, axes = panel_sheet(len(shares), columns, (side, side + 0.4), (0.6, 0.6), title)
    for ax, (heading, values) in zip(axes.flat, shares.items(), strict=False):
        percent = 100 * values
        ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        for (i, j), value in np.ndenumerate(percent):
            if value > 0.5:
                ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=6.5, color="w" if value > 55 else "k")
        for i in np.flatnonzero(np.isnan(percent).all(axis=1)):
            ax.text((len(names) - 1) / 2, i, "no images", ha="center", va="center", fontsize=6.5, color=QUIET)
        ax.set_title(textwrap.fill(heading, int(13 * side)), fontsize=8, loc="left", parse_math=False)
        slant = 60 if max(map(len, names)) > 4 else 0
        ax.set_xticks(range(len(names)), names, fontsize=7, rotation=slant, ha="right" if slant else "center")
        ax.set_yticks(range(len(names)), names, fontsize=7)
        ax.tick_params(length=0)
        ax.set_ylabel(row_label, fontsize=7)
        ax.set_xlabel(column_label, fontsize=7)
    return figure
