"""Grids of images and maps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from wna_jax.figures.parts import limit_of
from wna_jax.figures.tiles import IN_COLOUR, Row, Tiles


class Panel(NamedTuple):
    """One image [H, W, C] on the [0, 1] scale, or one map; all masked if there is none.

    Maps are drawn on the diverging scale that all maps of their row share, usually in standard errors. Pixels to
    outline are bool [H, W].
    """

    image: np.ndarray
    heading: str = ""
    is_map: bool = False
    outline: np.ndarray | None = None
    caption: str = ""


def panels(
    rows: Mapping[str, Sequence[Panel | None]], title: str, note: str = "", units: Mapping[str, str] | None = None
) -> Figure:
    """A grid of images and maps in labelled rows; the maps of a row share one scale with zero in the middle.

    None leaves a place empty. `note` is small print below; `units` has the unit of a row's maps, by row label, where it
    is not standard errors.
    """
    columns = max(map(len, rows.values()))
    present = {label: [panel for panel in row if panel] for label, row in rows.items()}

    def lines(texts: Sequence[str]) -> int:
        return max((text.count("\n") + 1 for text in texts if text), default=0)

    heights = []
    for label, row in present.items():
        above, below = lines([panel.heading for panel in row]), lines([panel.caption for panel in row])
        heights.append(Row(label, 0.05 + 0.125 * above, 0.06 + 0.125 * below))
    shown = [panel for row in present.values() for panel in row]
    right = 0.6 if any(panel.is_map for panel in shown) else 0.1
    if any(panel.is_map and panel.image.shape[-1] == 3 for panel in shown):
        note = f"{note} {IN_COLOUR}".strip()
    tiles = Tiles(heights, columns, shown[0].image.shape, title, note, right=right)
    for i, (label, places) in enumerate(rows.items()):
        unit = (units or {}).get(label, "standard errors")
        maps = [np.ma.masked_array(panel.image) for panel in present[label] if panel.is_map]
        limit = limit_of(np.ma.stack(maps), 6.0 if unit == "standard errors" else 0.0) if maps else 1.0
        for column, panel in enumerate(places):
            if panel is None:
                continue
            if panel.is_map or not np.ma.count(panel.image):
                tiles.map(i, column, np.ma.masked_array(panel.image), limit, "empty")
            else:
                tiles.image(i, column, np.asarray(panel.image))
            if panel.outline is not None:
                tiles.outline(i, column, panel.outline, panel.image.shape[-1] if panel.is_map else 1)
            tiles.above(i, column, panel.heading)
            tiles.below(i, column, panel.caption)
        if maps:
            tiles.scale([i], columns, limit, maps[0].shape[-1], unit)
    return tiles.figure


def colour_mapped(images: np.ndarray) -> np.ndarray:
    """Images on the [0, 1] scale in matplotlib's "viridis", with red, green, blue and alpha averaged to one channel.

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
    """A grid of images [rows, columns, H, W, C] on the [0, 1] scale; values outside it are drawn as black or white.

    Captions, a sequence per row, stand below each image.
    """
    rows, columns = images.shape[:2]
    longest = max((len(line) for label in row_labels for line in label.split("\n")), default=0)
    heights = [Row(label, 0.04, 0.19 if captions else 0.04) for label in row_labels]
    if column_labels:
        heights[0] = heights[0]._replace(above=0.22)
    left = 0.55 + 0.065 * longest if longest else 0.1
    tiles = Tiles(heights, columns, images.shape[2:], title, width=0.95, left=left)
    for row, column in np.ndindex(rows, columns):
        tiles.image(row, column, images[row, column])
        if captions:
            tiles.below(row, column, captions[row][column])
    for column, label in enumerate(column_labels):
        tiles.above(0, column, label, fontsize=9, fontweight="bold")
    return tiles.figure
