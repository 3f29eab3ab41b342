"""Figures of layers' activations: maps of all units and classes, bars, and one image in all layers of a network."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wna_jax.figures.parts import bare, draw_image, sheet

_SCALE = "magma"
_COLOURS = ("#2f6db5", "#d9822b", "#3a8f5c", "#8a5fb0")
_WIDEST = 64
"""Units in a figure; of wider layers the first ones."""


def activation_maps(conditions: Mapping[str, np.ma.MaskedArray], class_names: Sequence[str], title: str) -> Figure:
    """Mean activation maps: a block per condition, a row per class, a column per unit; one scale for all.

    Args:
        conditions: by name, [K, h, w, units].
        class_names: K names.
        title: what was done.
    """
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
        for spine in ax.spines.values():
            spine.set_visible(False)
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, fraction=0.02, pad=0.01, aspect=25)
    bar.set_label("mean activation", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def activation_bars(panels: Mapping[str, Mapping[str, np.ndarray]], title: str, *, columns: int = 5) -> Figure:
    """Mean activation of each unit, with the conditions side by side; one panel per class (or layer).

    Args:
        panels: by the panel's title, by the condition, [units].
        title: what was done.
        columns: panels per row.
    """
    rows = math.ceil(len(panels) / columns)
    columns = min(columns, len(panels))
    figure = sheet(3.0 * columns + 0.4, 1.7 * rows + 0.9, title)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (heading, conditions) in zip(axes.flat, panels.items(), strict=False):
        for i, (name, values) in enumerate(conditions.items()):
            width = 0.8 / len(conditions)
            at = np.arange(min(len(values), _WIDEST)) + (i - (len(conditions) - 1) / 2) * width
            ax.bar(at, np.ma.filled(values[:_WIDEST], 0), width, color=_COLOURS[i], label=name)
        ax.set_title(heading, loc="left", fontsize=8, parse_math=False)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("mean activation", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("unit", fontsize=8)
    handles = axes[0, 0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower left", ncols=4, fontsize=7, frameon=False)
    return figure


def walk(images: Mapping[str, np.ndarray], layers: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Figure:
    """The activations of all layers, one column per image; a layer has one scale in all columns.

    Args:
        images: by name, [H, W, C] on the [0, 1] scale.
        layers: by the layer's name, by the image's, activations [h, w, units] or [units].
        title: what was done.
    """
    figure = sheet(4.6 * len(images) + 0.8, 1.5 + 2.1 * len(layers), title)
    heights = [1.4] + [2.0 if next(iter(of.values())).ndim == 3 else 0.8 for of in layers.values()]
    axes = figure.subplots(len(layers) + 1, len(images), squeeze=False, height_ratios=heights)
    for ax in axes.flat:
        bare(ax)
    for ax, (name, image) in zip(axes[0], images.items(), strict=True):
        draw_image(ax, image)
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
        columns = min(len(activations), 100)
        rows = math.ceil(len(activations) / columns)
        grid = np.full(rows * columns, np.nan)
        grid[: len(activations)] = activations
        ax.imshow(grid.reshape(rows, columns), cmap=_SCALE, vmin=0, vmax=limit, interpolation="nearest", aspect="auto")
        return
    shown = activations[..., :_WIDEST]
    columns = math.ceil(math.sqrt(2 * shown.shape[-1]))
    rows = math.ceil(shown.shape[-1] / columns)
    tiles = np.full((*shown.shape[:2], rows * columns), np.nan)
    tiles[..., : shown.shape[-1]] = shown
    grid = tiles.reshape(*shown.shape[:2], rows, columns)
    picture = _mosaic(np.ma.masked_invalid(np.moveaxis(grid, 2, 0)))
    ax.imshow(picture, cmap=_SCALE, vmin=0, vmax=limit, interpolation="nearest")


def _mosaic(maps: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Maps [rows, h, w, columns] as one image, with masked lines between them."""
    rows, height, width, columns = maps.shape
    shape = (rows, height + 1, columns, width + 1)
    canvas = np.ma.masked_array(np.zeros(shape), np.ones(shape, bool))
    canvas[:, :height, :, :width] = np.moveaxis(maps, -1, 2)
    return canvas.reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]
