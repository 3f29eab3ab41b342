"""The figure of critical-band masking: the channels of networks, beside the width of a person's."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wna_jax.figures.parts import COLOURS, QUIET, head, sheet
from wna_jax.studies.critical_bands import Channel, Estimate

_NOTE = (
    "Sensitivity to a band of noise is 1 / the deviation (in pixel intensity) at which accuracy is half-way between "
    "chance and that without noise: points are means over seeds, bars reach from the lowest to the highest end of the "
    "seeds' 95% intervals over images, and curves are the fitted channels, without the width of the noise bands. On "
    "the right, one point per training seed, with its 95% interval over images; a short line is the mean."
)


def channels(of: Mapping[str, Sequence[Channel]], title: str, person_octaves: float) -> Figure:
    """Sensitivities and fitted channels of networks of several seeds, by name; their bandwidths, and their centres.

    The grey band is as wide as a person's channel, and placed at the mean centre of the first name's; the dotted line
    among the bandwidths is that width. A network without a channel has no curve, and no point to the right.
    """
    figure = sheet(11.5, 4.6, title, _NOTE)
    curves, widths, centres = figure.subplots(1, 3, width_ratios=(2.6, 1, 1))
    known = [np.log2(one.centre.at) for one in next(iter(of.values())) if np.isfinite(one.centre.at)]
    if known:
        middle, half = np.mean(known), person_octaves / 2
        label = f"as wide as a person's channel: {person_octaves:g} octave"
        curves.axvspan(2 ** (middle - half), 2 ** (middle + half), color=QUIET, alpha=0.18, linewidth=0, label=label)
    for i, (name, each) in enumerate(of.items()):
        colour = COLOURS[i % len(COLOURS)]
        _channel(curves, each, colour, name, i - (len(of) - 1) / 2)
        _estimates(widths, [one.bandwidth for one in each], i, colour)
        _estimates(centres, [one.centre for one in each], i, colour)
    bands = next(iter(of.values()))[0].bands
    curves.set_xscale("log", base=2)
    curves.set_xticks(bands.centres, [f"{centre:.3g}" for centre in bands.centres])
    curves.set_ylim(0, 1.3 * curves.get_ylim()[1])  # room for the legend
    curves.set_xlabel("spatial frequency, in cycles per image height", fontsize=8)
    curves.set_ylabel("sensitivity, 1 / pixel intensity", fontsize=8)
    head(curves, "Channels", 9, 8)
    widths.axhline(person_octaves, color=QUIET, linewidth=1, linestyle=":")
    widths.set_ylim(bottom=0)
    centres.set_ylim(bottom=0)
    for ax, heading in ((widths, "Bandwidth, in octaves"), (centres, "Centre, in cycles per image height")):
        ax.set_xticks(range(len(of)), list(of), rotation=30, ha="right")
        ax.set_xlim(-0.6, len(of) - 0.4)
        head(ax, heading, 9, 8)
    curves.legend(fontsize=7, frameon=False, loc="upper right")
    return figure


def _channel(ax: Axes, each: Sequence[Channel], colour: str, name: str, place: float) -> None:
    """Points of the mean sensitivity with the range of the intervals, and the mean of the fitted channels."""
    x = np.asarray(each[0].bands.centres) * 1.02**place  # side by side, or they would cover each other
    mean = np.ma.stack([one.sensitivity for one in each]).mean(axis=0)
    low = np.fmin.reduce([one.interval.low for one in each])
    high = np.fmax.reduce([one.interval.high for one in each])
    ax.vlines(x, low, high, color=colour, alpha=0.5, linewidth=1)
    ax.plot(x, mean, "o", markersize=4, color=colour, label=name)
    fitted = [one for one in each if np.isfinite(one.centre.at)]
    if fitted:
        fine = np.geomspace(x[0] / 2**0.5, x[-1] * 2**0.5, 200)
        ax.plot(fine, np.mean([one.gain(fine) for one in fitted], axis=0), linewidth=1.3, color=colour)


def _estimates(ax: Axes, each: Sequence[Estimate], place: int, colour: str) -> None:
    """One point per seed with its interval, and their mean as a short line."""
    x = place + 0.5 * (np.arange(len(each)) - (len(each) - 1) / 2) / max(len(each), 2)
    at, low, high = np.array(each).T
    ax.vlines(x, low, high, color=colour, alpha=0.6, linewidth=1)
    ax.plot(x, at, "o", markersize=4, color=colour)
    if len(each) > 1 and np.isfinite(at).any():
        ax.hlines(np.nanmean(at), place - 0.35, place + 0.35, color=colour, linewidth=1.3)
