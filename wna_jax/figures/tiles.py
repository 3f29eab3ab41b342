"""Grids of small pictures on one pair of axes that is measured in inches.

A pair of axes for each picture, laid out by matplotlib, took four fifths of the time of a figure of maps: here every
place is known beforehand.
"""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from wna_jax.figures.parts import DIVERGING, QUIET

_MARGIN = 0.1
_SCALE_WIDTH = 0.09
_VEIL, _REGION = 0.65, "#b98a1f"
_BETWEEN = 0.02  # the parts of a map of colours
IN_COLOUR = (
    "Each map is in four parts: its colours, which are those of noise that is evidence for it; lightness, with the "
    "outlines of all channels; red against green; yellow against blue."
)
"""How to read maps of three channels."""
_OPPONENTS = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]).astype(float)


class Row(NamedTuple):
    """One row of pictures, with space in inches for headings above it and captions below."""

    label: str = ""
    above: float = 0.05
    below: float = 0.05


class Tiles:
    """A figure of pictures in rows and columns, with a title, headings, captions, labels of rows, and colour scales."""

    def __init__(
        self,
        rows: Sequence[Row],
        columns: int,
        image_shape: tuple[int, ...],
        title: str,
        note: str = "",
        *,
        width: float = 1.2,
        left: float = 0.0,
        right: float = 0.1,
    ) -> None:
        """An empty figure of pictures [H, W, ...] (others are stretched to this shape), all sizes in inches.

        `note` is small print below, `width` that of a picture. `left` is the space for horizontal labels of rows beside
        the pictures (0: the labels stand upright), `right` that for scales.
        """
        upright = 0.2 + 0.15 * max(row.label.count("\n") + 1 for row in rows)
        self._width, self._left = width, left or upright
        self._height = width * image_shape[0] / image_shape[1]
        across = max(4.0, self._left + columns * (width + 0.05) + right + _MARGIN)
        heading, small = (textwrap.fill(text, int(per_inch * across)) for text, per_inch in ((title, 11.5), (note, 15)))
        self._tops = [_MARGIN + 0.17 * heading.count("\n") + 0.25 + rows[0].above]
        for before, row in itertools.pairwise(rows):
            self._tops.append(self._tops[-1] + self._height + before.below + row.above)
        bottom = self._tops[-1] + self._height + rows[-1].below
        down = bottom + _MARGIN + (0.14 * (small.count("\n") + 1) + 0.05 if note else 0)
        self.figure = Figure(figsize=(across, down), label=f"{title}. {note}".strip())  # said where it is not seen
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, across), ylim=(down, 0), autoscale_on=False)
        self.axes.set_axis_off()
        self.text(_MARGIN, _MARGIN, heading, fontsize=10, va="top", parse_math=False)
        self.text(_MARGIN, bottom + _MARGIN, small, fontsize=8, va="top", color=QUIET)
        turned = {"fontsize": 8} if left else {"fontsize": 8.5, "rotation": 90, "multialignment": "center"}
        for row, top in zip(rows, self._tops, strict=True):
            at = self._left - (0.06 if left else 0.04), top + self._height / 2
            self.text(*at, row.label, ha="right", va="center", parse_math=False, **turned)

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """A text at a place in inches from the left and from the top."""
        self.axes.text(x, y, text, **({"fontsize": 7} | style))

    def image(self, row: int, column: int, image_hwc: np.ndarray) -> None:
        """An image on the [0, 1] scale; values outside are drawn as black or white."""
        self._draw(row, column, np.clip(image_hwc, 0, 1), cmap="gray", vmin=0, vmax=1)

    def map(self, row: int, column: int, z_hwc: np.ma.MaskedArray, limit: float, why_empty: str) -> None:
        """A map from -limit (blue) to limit (red), or, where all is masked, why there is none.

        A map of three channels is drawn in four parts (`colour_parts`) side by side; of other numbers of channels, the
        sum over them in its own standard errors.
        """
        if not z_hwc.count():
            left, right, bottom, top = self._extent(row, column)
            dotted: dict[str, Any] = {"fill": False, "edgecolor": QUIET, "linestyle": ":", "linewidth": 0.8}
            self.axes.add_patch(Rectangle((left, top), right - left, bottom - top, **dotted))
            self.text((left + right) / 2, (top + bottom) / 2, why_empty, ha="center", va="center", color=QUIET)
        elif z_hwc.shape[-1] == 3:
            for part, picture in enumerate(colour_parts(z_hwc.filled(0), limit)):
                self.axes.imshow(
                    picture, extent=self._extent(row, column, part), aspect="auto", interpolation="nearest"
                )
        else:
            total = z_hwc.sum(axis=-1, keepdims=True) / np.sqrt(z_hwc.shape[-1])
            self._draw(row, column, total, cmap=DIVERGING, vmin=-limit, vmax=limit)

    def matrix(self, row: int, column: int, values: np.ma.MaskedArray, limit: float) -> None:
        """Numbers in coloured squares, such as the correlations of every two networks."""
        self._draw(row, column, values.filled(0), cmap=DIVERGING, vmin=-limit, vmax=limit)
        left, right, bottom, top = self._extent(row, column)
        side = np.array([right - left, bottom - top]) / len(values)
        for (i, j), value in np.ndenumerate(values.filled(np.nan)):
            text = "?" if np.isnan(value) else f"{value:.2f}".replace("0.", ".")
            x, y = np.array([left, top]) + (np.array([j, i]) + 0.5) * side
            self.text(x, y, text, ha="center", va="center", fontsize=min(7, 21 / len(values)))

    def outline(self, row: int, column: int, inside_hw: np.ndarray, channels: int = 1, colour: str = "#222222") -> None:
        """A line around the pixels inside, along their edges; of a map of colours, in its lightness."""
        height, width = inside_hw.shape
        left, right, bottom, top = self._extent(row, column, 1 if channels == 3 else None)
        scale = np.array([(right - left) / width, (bottom - top) / height])
        lines = edges(inside_hw) * scale + np.array([left, top])
        self.axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.4), autolim=False)

    def fade(self, row: int, column: int, region_hw: np.ndarray, channels: int = 1) -> None:
        """Draws what is outside of a region of interest pale, with a yellow line around the region."""
        veil = np.ones((*region_hw.shape, 4)) * np.where(region_hw, 0, _VEIL)[..., None]
        veil[..., :3] = 1
        for part in range(4) if channels == 3 else (None,):
            self._draw(row, column, veil, part)
        self.outline(row, column, region_hw, channels, _REGION)

    def above(self, row: int, column: int, text: str, line: float = 0, **style: Any) -> None:
        """A heading; `line` counts upwards from the picture."""
        left, right, _, top = self._extent(row, column)
        style = {"ha": "center", "va": "bottom", "parse_math": False} | style
        self.text((left + right) / 2, top - 0.03 - 0.125 * line, text, **style)

    def below(self, row: int, column: int, text: str, **style: Any) -> None:
        """A caption."""
        left, right, bottom, _ = self._extent(row, column)
        self.text((left + right) / 2, bottom + 0.03, text, ha="center", va="top", parse_math=False, **style)

    def scale(
        self, rows: Sequence[int], columns: int, limit: float, channels: int, unit: str = "standard errors"
    ) -> None:
        """What the colours of the maps in some rows mean, behind their last column."""
        top, bottom = self._tops[rows[0]], self._tops[rows[-1]] + self._height
        left = self._extent(rows[0], columns - 1)[1] + 0.1
        number = f"{limit:.{0 if limit >= 5 else 2 if limit >= 0.1 else 4}f}"
        if channels == 3:
            said = f"grey: 0\nfull: ±{number}\n"
            said += "s.e." if unit == "standard errors" else unit.replace(" of ", "\nof ")
            self.text(left, (top + bottom) / 2, said, va="center")
            return
        middle, reach = (top + bottom) / 2, min(0.45 * (bottom - top), 0.8)
        colours = np.linspace(limit, -limit, 64)[:, None]
        extent = (left, left + _SCALE_WIDTH, middle + reach, middle - reach)
        self.axes.imshow(colours, cmap=DIVERGING, vmin=-limit, vmax=limit, extent=extent, aspect="auto")
        for share, text in ((1, number), (0, "0"), (-1, f"−{number}")):
            self.text(left + _SCALE_WIDTH + 0.03, middle - share * reach, text, va="center", fontsize=6.5)
        self.text(left + 0.42, middle, unit, rotation=90, va="center", fontsize=7)

    def panel(self, rows: tuple[int, int], left: float, width: float) -> Axes:
        """Axes beside the pictures, `left` inches behind column 0, as high as the rows from one to another."""
        across, down = self.figure.get_size_inches()
        steps = rows[1] - rows[0]
        gap = (self._tops[rows[1]] - self._tops[rows[0]]) / steps - self._height if steps else 0
        top, bottom = self._tops[rows[0]] - gap / 2, self._tops[rows[1]] + self._height + gap / 2
        place = (self._left + left) / across, 1 - bottom / down, width / across, (bottom - top) / down
        return self.figure.add_axes(place)

    def _extent(self, row: int, column: int, part: int | None = None) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) of a picture, or of a quarter of it, in inches from the upper left corner."""
        left, top, width, height = (
            self._left + column * (self._width + 0.05),
            self._tops[row],
            self._width,
            self._height,
        )
        if part is not None:
            width, height = (width - _BETWEEN) / 2, (height - _BETWEEN) / 2
            left, top = left + part % 2 * (width + _BETWEEN), top + part // 2 * (height + _BETWEEN)
        return left, left + width, top + height, top

    def _draw(self, row: int, column: int, picture: np.ndarray, part: int | None = None, **colours: Any) -> None:
        extent = self._extent(row, column, part)
        self.axes.imshow(picture, extent=extent, aspect="auto", interpolation="nearest", **colours)


def colour_parts(z_hwc: np.ndarray, limit: float) -> list[np.ndarray]:
    """A map of red, green and blue as pictures: as it is, lightness, red against green, yellow against blue.

    Grey is 0. The last three are (r + g + b) / sqrt 3, (r - g) / sqrt 2 and (r + g - 2 b) / sqrt 6, so that independent
    channels in standard errors stay independent and in standard errors; their colours are full at the limit.
    """
    parts = [z_hwc]
    for axis in _OPPONENTS:
        along = z_hwc @ (axis / np.linalg.norm(axis))
        parts.append(along[..., None] * axis / np.abs(axis).max())
    return [np.clip(0.5 + part / (2 * limit), 0, 1) for part in parts]


def tint(z_hwc: np.ma.MaskedArray, limit: float) -> np.ma.MaskedArray:
    """The colours of a map of red, green and blue without its brightness, as a picture: grey is 0, full the limit."""
    return np.ma.clip(0.5 + (z_hwc - z_hwc.mean(axis=-1, keepdims=True)) / (2 * limit), 0, 1)


def edges(inside_hw: np.ndarray) -> np.ndarray:
    """The edges between pixels inside and outside: lines [n, 2, 2] from (x, y) to (x, y); pixels are unit squares."""
    padded = np.pad(inside_hw, 1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    horizontal = np.transpose([[x, y], [x + 1, y]], (2, 0, 1))
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    vertical = np.transpose([[x, y], [x, y + 1]], (2, 0, 1))
    return np.concatenate([horizontal, vertical]).astype(float)
