"""Building blocks of figures: titled sheets, axes without ticks, images, maps on a diverging scale, outlines."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DIVERGING = "RdBu_r"
COLOURS = (
    *("#2f6db5", "#c8553d", "#3a8f5c", "#8a5fb0", "#b98a1f"),
    *("#4aa3a8", "#6b6b6b", "#222222", "#d98ab8", "#7a5230"),
)
GOOD, BAD, QUIET = "#1a7f37", "#b3261e", "#6b6b6b"


def sheet(width: float, height: float, title: str, note: str = "", **padding: float) -> Figure:
    """An empty figure with a title, and a note in small print below; both are wrapped to its width.

    Args:
        width: in inches.
        height: in inches.
        title: what the figure shows.
        note: how to read it.
        **padding: padding of matplotlib's constrained layout.
    """
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", **padding)
    figure.suptitle(textwrap.fill(title, int(11.5 * width)), x=0.01, ha="left", fontsize=10, parse_math=False)
    if note:
        figure.supxlabel(textwrap.fill(note, int(15 * width)), x=0.01, ha="left", fontsize=8, color=QUIET)
    return figure


def bare(ax: Axes) -> None:
    """Removes ticks and frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def draw_image(ax: Axes, image_hwc: np.ndarray) -> None:
    """Draws an image on the [0, 1] scale."""
    if image_hwc.shape[-1] == 1:
        ax.imshow(image_hwc[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        ax.imshow(np.clip(image_hwc, 0, 1))


def limit_of(z_khwc: np.ma.MaskedArray, least: float = 6.0) -> float:
    """End of the colour scale: the 99.5th percentile of |z|, and at least `least`, so that noise stays pale."""
    strength = np.abs(z_khwc.compressed())
    return max(least, float(np.quantile(strength, 0.995))) if strength.size else 6.0
