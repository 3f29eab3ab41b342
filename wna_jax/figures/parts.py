"""What figures are made of: axes without ticks, images, maps on a diverging scale, outlines."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

DIVERGING = "RdBu_r"
COLOURS = (
    "#2f6db5",
    "#c8553d",
    "#3a8f5c",
    "#8a5fb0",
    "#b98a1f",
    "#4aa3a8",
    "#6b6b6b",
    "#222222",
    "#d98ab8",
    "#7a5230",
)
GOOD, BAD, QUIET = "#1a7f37", "#b3261e", "#6b6b6b"


def sheet(width: float, height: float, title: str, note: str = "", **padding: float) -> Figure:
    """An empty figure of so many inches with its title, and a note in small print below, broken to its width.

    Args:
        width: in inches.
        height: in inches.
        title: what is seen.
        note: how to read it.
        **padding: of matplotlib's constrained layout.
    """
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", **padding)
    figure.suptitle(textwrap.fill(title, int(11.5 * width)), x=0.01, ha="left", fontsize=10, parse_math=False)
    if note:
        figure.supxlabel(textwrap.fill(note, int(15 * width)), x=0.01, ha="left", fontsize=8, color=QUIET)
    return figure


def bare(ax: Axes) -> None:
    """Takes away ticks and frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def draw_image(ax: Axes, image_hwc: np.ndarray) -> None:
    """An image on the [0, 1] scale."""
    if image_hwc.shape[-1] == 1:
        ax.imshow(image_hwc[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        ax.imshow(np.clip(image_hwc, 0, 1))


def draw_map(ax: Axes, z_hwc: np.ma.MaskedArray, limit: float, why_empty: str) -> None:
    """A map from -limit (blue) to limit (red), or, where all is masked, why there is none."""
    if not z_hwc.count():
        height, width = z_hwc.shape[:2]
        ax.imshow(np.ones((height, width)), cmap="gray", vmin=0, vmax=1)
        for spine in ax.spines.values():
            spine.set(visible=True, color=QUIET, linestyle=":")
        ax.text(0.5, 0.5, why_empty, transform=ax.transAxes, ha="center", va="center", fontsize=7, color=QUIET)
    elif z_hwc.shape[-1] == 1:
        ax.imshow(z_hwc[..., 0], cmap=DIVERGING, vmin=-limit, vmax=limit)
    else:
        ax.imshow(np.clip(0.5 + z_hwc.filled() / (2 * limit), 0, 1))


def outline(ax: Axes, inside_hw: np.ndarray) -> None:
    """A line around the pixels inside, along their edges."""
    if inside_hw.any():
        (height, width), fine = inside_hw.shape, 6
        edges = np.pad(np.kron(inside_hw, np.ones((fine, fine))), 1)  # the line follows pixels, not their centres
        margin = 1 / fine
        extent = (-0.5 - margin, width - 0.5 + margin, -0.5 - margin, height - 0.5 + margin)
        ax.contour(edges, levels=[0.5], colors="#222222", linewidths=0.4, extent=extent)


def add_scale(figure: Figure, line: Sequence[Axes], limit: float, channels: int, unit: str = "standard errors") -> None:
    """What the colours of a row of maps mean."""
    if channels == 1:
        scale = ScalarMappable(Normalize(-limit, limit), DIVERGING)
        bar = figure.colorbar(scale, ax=line, shrink=0.85, fraction=0.012, pad=0.01, aspect=10, extend="both")
        bar.set_label(unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    else:
        number = f"{limit:.{0 if limit >= 5 else 2}f}"
        said = f"grey: 0\nblack, white:\n±{number} {'s.e.' if unit == 'standard errors' else unit}"
        line[-1].annotate(said, (1.08, 0.5), xycoords="axes fraction", fontsize=7, va="center")


def limit_of(z_khwc: np.ma.MaskedArray, least: float = 6.0) -> float:
    """Where the scale ends: above all but the strongest half per cent of pixels, and where mere noise stays pale."""
    strength = np.abs(z_khwc.compressed())
    return max(least, float(np.quantile(strength, 0.995))) if strength.size else 6.0
