"""Figures of templates as classifiers: accuracies and confusion matrices."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wna_jax.figures.parts import QUIET, sheet


def template_accuracies(rows: Sequence[Mapping[str, Any]], chance: float, title: str) -> Figure:
    """Test accuracy of each kind of templates with its 95% interval, grouped by the noise that they come from.

    Args:
        rows: each with noise, response, variant, test_accuracy, interval_95 and authors_rule_test_accuracy.
        chance: accuracy of a guess.
        title: what was done.
    """
    figure = sheet(8.5, 0.21 * len(rows) + 1.5, title)
    ax = figure.subplots()
    names = list(dict.fromkeys(row["noise"] for row in rows))
    place, labels = 0.0, []
    for name in names:
        members = [row for row in rows if row["noise"] == name]
        color = f"C{names.index(name)}"
        top = place
        for row in members:
            accuracy, (low, high) = row["test_accuracy"], row["interval_95"]
            ax.plot([low, high], [place, place], color=color, linewidth=3, solid_capstyle="butt", alpha=0.5)
            ax.plot(accuracy, place, "o", color=color, markersize=4, label="chosen rule, 95% interval" * (place == 0))
            ax.plot(
                row["authors_rule_test_accuracy"],
                place,
                "x",
                color=QUIET,
                markersize=4,
                label="the authors' cosine rule" * (place == 0),
            )
            ax.annotate(f"{accuracy:.3f}", (high, place), (4, 0), textcoords="offset points", va="center", fontsize=6.5)
            labels.append((place, f"{row['response']} {row['variant']}".strip()))
            place += 1
        ax.text(
            1.04, (top + place - 1) / 2, name, transform=ax.get_yaxis_transform(), fontsize=9, color=color, va="center"
        )
        place += 0.7
    ax.axvline(chance, color=QUIET, linewidth=0.8, linestyle=":", label=f"chance {chance:g}")
    ax.set_yticks([at for at, _ in labels], [text for _, text in labels], fontsize=7)
    ax.set_ylim(place - 0.2, -1)
    ax.set_xlim(0, 1)
    ax.set_xlabel("test accuracy", fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", length=0)
    ax.legend(fontsize=7, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


def confusions(matrices: Mapping[str, np.ndarray], class_names: Sequence[str], title: str) -> Figure:
    """Confusion matrices side by side: row the true class, column the answer, in per cent of the true class.

    Args:
        matrices: counts [K, K] by what is written above each.
        class_names: K names.
        title: what is seen.
    """
    images = {name: np.ma.masked_equal(counts.sum(axis=1, keepdims=True), 0) for name, counts in matrices.items()}
    shares = {name: np.ma.filled(counts / images[name], np.nan) for name, counts in matrices.items()}
    return tables(shares, class_names, title, "true class", "answer")


def tables(
    shares: Mapping[str, np.ndarray], names: Sequence[str], title: str, row_label: str, column_label: str
) -> Figure:
    """Square tables of shares, such as accuracies, side by side, in per cent.

    Args:
        shares: [K, K] by what is written above each; a row of NaN is said to have no images.
        names: of the K rows, and of the columns.
        title: what is seen.
        row_label: what rows are.
        column_label: what columns are.
    """
    columns = min(2, len(shares))
    lines = math.ceil(len(shares) / columns)
    side = 0.32 * len(names) + 0.9
    figure = sheet(columns * side + 0.6, lines * (side + 0.4) + 0.6, title)
    axes = figure.subplots(lines, columns, squeeze=False)
    for ax in axes.flat[len(shares) :]:
        ax.set_visible(False)
    for ax, (name, of_table) in zip(axes.flat, shares.items(), strict=False):
        percent = 100 * of_table
        ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        for (i, j), value in np.ndenumerate(percent):
            if value > 0.5:
                ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=6.5, color="w" if value > 55 else "k")
        for i in np.flatnonzero(np.isnan(percent).all(axis=1)):
            ax.text((len(names) - 1) / 2, i, "no images", ha="center", va="center", fontsize=6.5, color=QUIET)
        ax.set_title(textwrap.fill(name, int(13 * side)), fontsize=8, loc="left", parse_math=False)
        slant = 60 if max(map(len, names)) > 4 else 0
        ax.set_xticks(range(len(names)), names, fontsize=7, rotation=slant, ha="right" if slant else "center")
        ax.set_yticks(range(len(names)), names, fontsize=7)
        ax.tick_params(length=0)
        ax.set_ylabel(row_label, fontsize=7)
        ax.set_xlabel(column_label, fontsize=7)
    return figure
