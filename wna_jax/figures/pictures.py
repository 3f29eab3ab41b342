"""Grids of images and maps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from wna_jax.figures.parts import add_scale, bare, draw_image, draw_map, limit_of, outline, sheet


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
    figure = sheet(1.35 * columns + 1.6, 1.62 * len(rows) + 0.8, title, note, h_pad=0.02, w_pad=0.02)
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


def colour_mapped(images: np.ndarray) -> np.ndarray:
    """Images [0, 1] as the mean of the red, green, blue and alpha of the colours that "viridis" gives them.

    So arXiv 1912.12106's notebooks read their maps back from a saved picture: all values lie between .40 and .76.
    """
    return colormaps["viridis"](images).mean(axis=-1)


def gallery(
    images: np.ndarray,
    row_labels: Sequence[str],
    title: str,
    captions: Sequence[Sequence[str]] = (),
    column_labels: Sequence[str] = (),
) -> Figure:
    """A grid of images on the [0, 1] scale, a labelled row each; values outside are drawn as black or white.

    Args:
        images: [rows, columns, H, W, C].
        row_labels: one for each row.
        title: what is seen.
        captions: optional text below each image, [rows][columns].
        column_labels: optional, one above each column.
    """
    rows, columns = images.shape[:2]
    label_width = 0.085 * max(map(len, row_labels), default=0)
    height = 0.95 * (1.28 if captions else 1.03)
    figure = sheet(max(4.0, 0.95 * columns + label_width), height * rows + 0.45, title, h_pad=0.01, w_pad=0.01)
    axes = figure.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        for column in range(columns):
            ax = axes[row, column]
            bare(ax)
            if column_labels and row == 0:
                ax.set_title(column_labels[column], fontsize=9, fontweight="bold", parse_math=False)
            draw_image(ax, images[row, column])
            if captions:
                ax.set_xlabel(captions[row][column], fontsize=7, labelpad=2)
        axes[row, 0].set_ylabel(row_labels[row], rotation=0, ha="right", va="center", fontsize=8)
    return figure
