"""Figures of layers' activations: maps of all units and classes, bars, and one image in all layers of a network."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wna_jax.figures.parts import head, legend_below, panel_sheet, sheet

_SCALE = "magma"
_COLOURS = ("#2f6db5", "#d9822b", "#3a8f5c", "#8a5fb0")
_WIDEST = 64
"""Units in a figure; of wider layers the first ones."""


def activation_maps(conditions: Mapping[str, np.ma.MaskedArray], class_names: Sequence[str], title: str) -> Figure:
    """Mean activation maps [K, h, w, units]: a block per condition, a row per class, a column per unit; one scale."""
    shown = {name: maps[..., :_WIDEST] for name, maps in conditions.items()}
    limit = max(float(maps.max()) for maps in shown.values())
    classes, height, width, units = next(iter(shown.values())).shape
    across = min(18.0, 0.42 * units + 1.5)
    tile = (across - 1.5) / units * height / width
    figure = sheet(across, len(shown) * (tile * classes + 0.5) + 0.7, title)
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for ax, (name, maps) in zip(axes, shown.items(), strict=True):
        picture = ax.imshow(_mosaic(maps), cmap=_SCALE, vmin=0, vmax=limit, interpolation="nearest")
        ax.set_yticks((np.arange(classes) + 0.5) * (height + 1) - 1, class_names, fontsize=7)
        ax.set_xticks((np.arange(units) + 0.5) * (width + 1) - 1, range(units), fontsize=6)
        ax.tick_params(length=0)
        ax.set_title(name, loc="left", fontsize=8, parse_math=False)
        ax.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, fraction=0.02, pad=0.01, aspect=25)
    bar.set_label("mean activation", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def activation_bars(panels: Mapping[str, Mapping[str, np.ndarray]], title: str, *, columns: int = 5) -> Figure:
    """Mean activations [units], by panel (a class, or a layer) and by condition: side by side in the panel."""
    figure, axes = panel_sheet(len(panels), min(columns, len(panels)), (3.0, 1.7), (0.4, 0.9), title, sharey=True)
    for ax, (heading, conditions) in zip(axes.flat, panels.items(), strict=False):
        width = 0.8 / len(conditions)
        for i, (name, values) in enumerate(conditions.items()):
            at = np.arange(min(len(values), _WIDEST)) + (i - (len(conditions) - 1) / 2) * width
            ax.bar(at, np.ma.filled(values[:_WIDEST], 0), width, color=_COLOURS[i], label=name)
        head(ax, heading, 8, 7)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[:, 0]:
        ax.set_ylabel("mean activation", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("unit", fontsize=8)
    legend_below(figure, 4)
    return figure


def walk(images: Mapping[str, np.ndarray], layers: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Figure:
    """The activations of all layers, one column per image; a layer has one scale in all columns.

    Images [H, W, C], on the [0, 1] scale, are given by name; activations [h, w, units] or [units] by the layer's name,
    then by the image's.
    """
    figure = sheet(4.6 * len(images) + 0.8, 1.5 + 2.1 * len(layers), title)
    heights = [1.4] + [2.0 if next(iter(of.values())).ndim == 3 else 0.8 for of in layers.values()]
    axes = figure.subplots(len(layers) + 1, len(images), squeeze=False, height_ratios=heights)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, (name, image) in zip(axes[0], images.items(), strict=True):
        ax.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1)
        ax.set_title(name, fontsize=8, parse_math=False)
    for line, (layer, activations) in zip(axes[1:], layers.items(), strict=True):
        limit = max(float(values.max()) for values in activations.values()) or 1.0
        for ax, values in zip(line, activations.values(), strict=True):
            _draw_layer(ax, values, limit)
        line[0].set_ylabel(layer, fontsize=8, parse_math=False)
        bar = figure.colorbar(line[-1].images[0], ax=line, shrink=0.8, fraction=0.02, pad=0.01, aspect=15)
        bar.ax.tick_params(labelsize=6)
    return figure


def _draw_layer(ax: Axes, activations: np.ndarray, limit: float) -> None:
    if activations.ndim == 1:
        picture = _in_rows(activations, min(len(activations), 100))
    else:
        shown = activations[..., :_WIDEST]
        picture = _mosaic(np.moveaxis(_in_rows(shown, math.ceil(math.sqrt(2 * shown.shape[-1]))), 2, 0))
    ax.imshow(picture, cmap=_SCALE, vmin=0, vmax=limit, interpolation="nearest")
    if activations.ndim == 1:
        ax.set_aspect("auto")


def _in_rows(values: np.ndarray, columns: int) -> np.ndarray:
    """[..., units] -> [..., rows, columns], the last row filled up with NaN."""
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % columns)]
    padded = np.pad(values.astype(float), padding, constant_values=np.nan)
    return padded.reshape(*values.shape[:-1], -1, columns)


def _mosaic(maps: np.ndarray) -> np.ndarray:
    """Maps [rows, h, w, columns] as one image, NaN where they are masked and in lines between them."""
    values = np.ma.filled(maps.astype(float), np.nan)
    tiles = np.pad(values, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=np.nan).swapaxes(2, 3)
    return tiles.reshape(tiles.shape[0] * tiles.shape[1], -1)[:-1, :-1]
