"""Figures of trainings: learning curves, the surest answers, and the spread over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import special

from wna_jax.figures.parts import QUIET, head, legend_below, panel_sheet, sheet
from wna_jax.figures.pictures import Panel, panels
from wna_jax.figures.tiles import IN_COLOUR, Row, Tiles
from wna_jax.statistics import SeedMean, log_odds

_SHOWN = 10
_MAP, _PANEL, _SAID = 0.75, 1.2, 0.85  # inches
_COLOURS = {"train": "#c8553d", "validation": "#2f6db5"}


def learning_curves(history: Sequence[Mapping[str, float]], best_epoch: int, title: str) -> Figure:
    """Loss and accuracy by epoch, on the training images while the network learns, and on the validation images.

    `history` has a row per epoch: train_loss, train_accuracy, validation_loss, validation_accuracy. The parameters of
    `best_epoch`, counted from 1 on, were kept.
    """
    figure, axes = panel_sheet(2, 2, (4.2, 3.4), (0, 0), title)
    epochs = np.arange(1, len(history) + 1)
    for ax, measure in zip(axes.flat, ("loss", "accuracy"), strict=True):
        for split, colour in _COLOURS.items():
            values = [row.get(f"{split}_{measure}", np.nan) for row in history]
            ax.plot(epochs, values, "o-", markersize=3, linewidth=1.3, color=colour, label=split)
        ax.axvline(best_epoch, color=QUIET, linewidth=0.8, linestyle=":", label="kept: best on validation")
        head(ax, measure + (", nats" if measure == "loss" else ""), 9, 8)
        ax.set_xlabel("epoch", fontsize=8)
        ax.set_xlim(0.5, len(history) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, 3)
    return figure


def surest_answers(
    images_u8: np.ndarray, labels: np.ndarray, logits: np.ndarray, class_names: Sequence[str], what: str
) -> Figure:
    """The images that a classifier is surest of (by `log_odds`): right ones, also per class, and wrong ones.

    For images [n, H, W, C], their true classes [n] and logits [n, K]; `what` is the classifier, for the title.
    """
    answers, sure = logits.argmax(axis=1), log_odds(logits)
    surest = np.argsort(-sure)
    is_right = answers[surest] == labels[surest]
    right, wrong = surest[is_right], surest[~is_right]

    as_doubt = special.expit(sure.max()) >= 0.999  # one form for all, in which the surest answers differ

    def panel(i: int) -> Panel:
        called = class_names[answers[i]]
        heading = f"1 − p = {special.expit(-sure[i]):.1g}" if as_doubt else f"p = {special.expit(sure[i]):.4f}"
        caption = called if answers[i] == labels[i] else f"called {called}, is {class_names[labels[i]]}"
        return Panel(images_u8[i] / np.float32(255), heading, caption=caption)

    of_class = [right[answers[right] == k] for k in range(len(class_names))]
    rows: dict[str, list[Panel | None]] = {
        "right,\nthe surest": [panel(i) for i in right[:_SHOWN]],
        "right, surest\nof each class": [panel(members[0]) if len(members) else None for members in of_class],
        "wrong,\nthe surest": [panel(i) for i in wrong[:_SHOWN]],
        "wrong,\nnext to those": [panel(i) for i in wrong[_SHOWN : 2 * _SHOWN]],
    }
    counts = f"{len(right):,} right and {len(wrong):,} wrong of {len(labels):,} test images"
    return panels({label: row for label, row in rows.items() if any(row)}, f"The surest answers of {what}: {counts}")


def seed_means(
    columns: Mapping[str, Mapping[str, SeedMean]], title: str, published: Mapping[str, Mapping[str, float]]
) -> Figure:
    """One panel per measure and one row per setting: a point per seed, the mean with its interval, published values.

    The means, and what others published (drawn hollow), are given by measure, then by setting.
    """
    names = list(next(iter(columns.values())))
    legend = (
        "Point: a seed. Bar: mean and its 95% interval (Student's t over seeds), cut off where it reaches the edge."
    )
    legend += " Hollow: published." * bool(published)
    figure = sheet(3.2 * len(columns) + 2.2, 0.3 * len(names) + 1.6, title, legend)
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, (measure, rows) in zip(axes, columns.items(), strict=True):
        _seeds(ax, measure, rows, published.get(measure, {}))
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def regimes(
    maps: Mapping[str, np.ma.MaskedArray],
    class_names: Sequence[str],
    columns: Mapping[str, Mapping[str, SeedMean]],
    said: Mapping[str, Mapping[str, str]],
    title: str,
    note: str,
) -> Figure:
    """A row per regime of training: its maps of M classes, and what was measured of its networks, a point per seed.

    Args:
        maps: by row, maps [M, H, W, C] of the same classes, each drawn on its own scale. The first row is what the maps
            of all regimes, which are the others, are compared with.
        class_names: of the M maps.
        columns: by measure and regime, the values of the seeds and their mean.
        said: by measure and regime, what stands in place of the mean's number.
        title: the figure's.
        note: small print below; how points and bars are to be read is added.
    """
    names, shape = list(maps), next(iter(maps.values())).shape[1:]
    note += " Point: a training seed. Bar: mean and its 95% interval (Student's t over seeds)."
    note += f" {IN_COLOUR}" * (shape[-1] == 3)
    beside = len(class_names) * (_MAP + 0.05) + 0.15
    layout = [Row(name, 0.2 if i == 0 else 0.03, 0.03) for i, name in enumerate(names)]
    layout[1] = layout[1]._replace(above=0.25)
    layout[-1] = layout[-1]._replace(below=0.3)
    room = len(columns) * (_PANEL + _SAID)
    tiles = Tiles(layout, len(class_names), shape, title, note, width=_MAP, left=1.15, right=room + 0.2)
    for row, of_classes in enumerate(maps.values()):
        for k, image in enumerate(of_classes):
            limit = float(np.quantile(np.abs(image.compressed()), 0.995)) if image.count() else 1.0
            tiles.map(row, k, image / (limit or 1.0), 1.0, "no map")
    for k, name in enumerate(class_names):
        tiles.above(0, k, name, fontsize=8, fontweight="bold")
    for i, (measure, rows) in enumerate(columns.items()):
        ax = tiles.panel((1, len(names) - 1), beside + i * (_PANEL + _SAID), _PANEL)
        _seeds(ax, measure, {name: rows[name] for name in names[1:]}, {}, said[measure], most_ticks=3)
        ax.set_yticks(range(len(names) - 1), [""] * (len(names) - 1))
        ax.set_ylim(len(names) - 1.5, -0.5)
    return tiles.figure


def _seeds(
    ax: Axes,
    measure: str,
    rows: Mapping[str, SeedMean],
    others: Mapping[str, float],
    said: Mapping[str, str] | None = None,
    most_ticks: int = 5,
) -> None:
    """The values of the seeds of each setting, their mean with its interval, and what others published."""
    for place, (name, of) in enumerate(rows.items()):
        ax.plot([of.low, of.high], [place, place], color="#2f6db5", linewidth=4, alpha=0.3, solid_capstyle="butt")
        ax.plot(of.mean, place, "|", color="#2f6db5", markersize=11, markeredgewidth=1.8)
        ax.plot(of.values, [place] * len(of.values), "o", color="#2f6db5", markersize=3.5)
        text = said[name] if said else f"{of.mean:.4f}"
        ax.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7)
        if name in others:
            ax.plot(others[name], place, "D", color="#c8553d", markerfacecolor="white", markersize=5)
    shown = [*others.values(), *(value for of in rows.values() for value in of.values)]
    margin = 0.15 * (max(shown) - min(shown)) + 1e-3
    ax.set_xlim(min(shown) - margin, max(shown) + margin)
    head(ax, measure, 9, 7)
    ax.xaxis.set_major_locator(MaxNLocator(most_ticks))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", linewidth=0.4, color="#dddddd")
    ax.spines["left"].set_visible(False)
