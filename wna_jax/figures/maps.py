"""Figures of the maps of all classes, of responses to noise, of speeds, and galleries of images."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wna_jax.ensembles import Agreement
from wna_jax.figures.parts import (
    BAD,
    DIVERGING,
    GOOD,
    QUIET,
    add_scale,
    bare,
    draw_image,
    draw_map,
    limit_of,
    outline,
    sheet,
)
from wna_jax.maps import ClassificationImages
from wna_jax.statistics import Convergence, Findings, SplitHalf
from wna_jax.statistics.findings import CLUSTER_THRESHOLD, SMOOTHING
from wna_jax.templates import Feedback

_COLUMNS = 10
_PANEL = 1.25  # inches
_CLOSE = {"h_pad": 0.02, "w_pad": 0.02, "hspace": 0.02}
RELIABLE = 0.9
"""Split-half reliability from which on a map is not marked."""


def classification_images(
    maps: Mapping[str, ClassificationImages],
    feedback: Mapping[str, Sequence[Feedback | None]],
    reliability: Mapping[str, SplitHalf],
    significant: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    class_means: np.ndarray,
    title: str,
) -> Figure:
    """The maps of every class, a row a response, under the mean training image of the class.

    All maps of a row share one scale, in standard errors of the map, with zero in the middle: a map that is still noise
    looks pale. Outlined are significant pixels, where they are given. Above each map
    stand its count and share (for graded responses the mean weight) and its reliability; a map below .9 is marked, with
    the samples that it would need. Below it stands what the network calls the map, with its confidence.

    Args:
        maps: by response, for K classes.
        feedback: by response, K answers.
        reliability: by response, for K classes.
        significant: by response, the pixels to outline, bool [K, H, W, C]; none for a response that is not in it.
        class_names: K names.
        class_means: mean training images [K, H, W, C] on the [0, 1] scale.
        title: what was done: network, data, noise, number of samples.
    """
    blocks = math.ceil(len(class_names) / _COLUMNS)
    columns = math.ceil(len(class_names) / blocks)
    rows = 1 + len(maps)
    legend = (
        "Red: brighter noise there speaks for the class; blue: darker. Above a map: samples of the class and their "
        "share, or mean probability; reliability (split half), and the samples that would bring it to .9. Below: what "
        "the network calls the map itself, and its confidence."
    )
    if significant:
        legend += " Outlined: p < .05 over all maps of the row."
    figure = sheet(
        _PANEL * columns + 1.4, blocks * (_PANEL + 0.3 + (_PANEL + 0.52) * len(maps)) + 0.9, title, legend, **_CLOSE
    )
    axes = figure.subplots(blocks * rows, columns, squeeze=False)
    for ax in axes.flat:
        bare(ax)
    for k, name in enumerate(class_names):
        block, column = divmod(k, columns)
        top = axes[block * rows, column]
        draw_image(top, class_means[k])
        top.set_title(name, fontsize=9, fontweight="bold", parse_math=False)
    for row, (response, images) in enumerate(maps.items(), start=1):
        z_khwc = images.images / images.standard_error
        limit = limit_of(z_khwc)
        for k in range(len(class_names)):
            block, column = divmod(k, columns)
            ax = axes[block * rows + row, column]
            draw_map(ax, z_khwc[k], limit, _why_empty(images, k))
            if response in significant:
                outline(ax, significant[response][k].any(axis=-1))
            _caption(ax, _amount(response, images, k), feedback[response][k], k, class_names)
            _mark_reliability(ax, images, reliability[response], k)
        for block in range(blocks):
            line = axes[block * rows + row]
            line[0].set_ylabel(f"{response}\nmap", fontsize=9)
            add_scale(figure, line, limit, z_khwc.shape[-1])
    for block in range(blocks):
        axes[block * rows, 0].set_ylabel("training\nmean", fontsize=9)
    return figure


def across_networks(
    maps: Mapping[str, ClassificationImages],
    agreed: Agreement,
    response: str,
    class_names: Sequence[str],
    class_means: np.ndarray,
    title: str,
) -> Figure:
    """The maps of networks that differ in their training seed alone, their mean, and how alike they are.

    The networks' maps share one scale, in standard errors of each map. The mean map is in standard errors across
    networks, the root mean square of them over the pixels of the map: those of single pixels are of few networks.

    Args:
        maps: by network, for K classes.
        agreed: of these maps.
        response: what was averaged.
        class_names: K names.
        class_means: mean training images [K, H, W, C] on the [0, 1] scale.
        title: what was done.
    """
    z = {name: m.images / m.standard_error for name, m in maps.items()}
    error_k = np.ma.sqrt((agreed.standard_error**2).mean(axis=(1, 2, 3), keepdims=True))
    mean = agreed.mean / error_k
    limit, mean_limit = limit_of(np.ma.stack(list(z.values()))), limit_of(mean)
    count, columns = len(maps), len(class_names)
    legend = (
        "Every network was shown noise of its own. Mean: over networks, in standard errors across them; its r is the "
        "mean of the correlations below it. Correlations of the networks' maps are corrected for the noise of both: "
        "1 is one template, and what is missing is left to the training's seed."
    )
    figure = sheet(_PANEL * columns + 1.4, (_PANEL + 0.17) * (count + 3) + 0.9, title, legend, **_CLOSE)
    axes = figure.subplots(count + 3, columns, squeeze=False)
    for ax in axes.flat:
        bare(ax)
    for k, name in enumerate(class_names):
        draw_image(axes[0, k], class_means[k])
        axes[0, k].set_title(name, fontsize=9, fontweight="bold", parse_math=False)
        for row, (network, m) in enumerate(maps.items(), start=1):
            draw_map(axes[row, k], z[network][k], limit, _why_empty(m, k))
            axes[row, k].set_title(_amount(response, m, k), fontsize=7, pad=2)
        draw_map(axes[-2, k], mean[k], mean_limit, "fewer than\ntwo maps")
        others = agreed.corrected[k][~np.eye(count, dtype=bool)]
        axes[-2, k].set_title(f"r {others.mean():.2f}" if others.count() else "r unknown", fontsize=7, pad=2)
        _draw_matrix(axes[-1, k], agreed.corrected[k])
    axes[0, 0].set_ylabel("training\nmean", fontsize=9)
    for row, network in enumerate(maps, start=1):
        axes[row, 0].set_ylabel(f"{response}\n{network}", fontsize=9)
    axes[-2, 0].set_ylabel("mean\nmap", fontsize=9)
    axes[-1, 0].set_ylabel("correlation", fontsize=9)
    channels = class_means.shape[-1]
    add_scale(figure, list(axes[1:-2].flat), limit, channels)
    add_scale(figure, axes[-2], mean_limit, channels)
    return figure


def significance(findings: Mapping[str, Findings], class_names: Sequence[str], title: str) -> Figure:
    """What each test finds in the maps of every class: a row a response and test, significant pixels outlined.

    Args:
        findings: by response, for K classes.
        class_names: K names.
        title: what was done.
    """
    labels = {
        "pixels": "single\npixels",
        "smoothed": f"smoothed\nby {SMOOTHING:g} px",
        "clusters": f"clusters\n|z| > {CLUSTER_THRESHOLD:g}",
        "TFCE": "TFCE",
    }
    rows = [(response, test) for response, found in findings.items() for test in found.significant]
    columns = len(class_names)
    legend = (
        "Outlined: p < .05 over all maps of the row, each test by itself. Below a map: how many values are. A cluster "
        "is significant as a whole, not each pixel of it. infoVal: how far the whole map is from noise, about N(0, 1) "
        "for a map of mere noise."
    )
    figure = sheet(_PANEL * columns + 1.4, (_PANEL + 0.28) * len(rows) + 1.0, title, legend, **_CLOSE)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (line, (response, test)) in enumerate(zip(axes, rows, strict=True)):
        found = findings[response]
        maps = found.smoothed if test == "smoothed" else found.z
        limit = limit_of(maps)
        inside = found.significant[test]
        for k, ax in enumerate(line):
            bare(ax)
            draw_map(ax, maps[k], limit, "no map")
            if row == 0:
                ax.set_title(class_names[k], fontsize=9, fontweight="bold", parse_math=False, pad=13)
            if test == "pixels" and found.info_val is not None and found.info_val[k] is not np.ma.masked:
                info = f"infoVal {found.info_val[k]:.{1 if abs(found.info_val[k]) < 10 else 0}f}"
                ax.text(0.5, 1.03, info, transform=ax.transAxes, ha="center", fontsize=6.5, color=QUIET)
            if inside is None or not maps[k].count():
                ax.set_xlabel("" if inside is not None else "not tested", fontsize=7, labelpad=2, color=QUIET)
                continue
            outline(ax, inside[k].any(axis=-1))
            ax.set_xlabel(f"{inside[k].sum()} of {inside[k].size}", fontsize=7, labelpad=2)
        line[0].set_ylabel(f"{response}\n{labels[test]}", fontsize=8)
        add_scale(figure, line, limit, maps.shape[-1])
    return figure


def convergence(
    curves: Mapping[str, tuple[str, Convergence]], n0: Mapping[str, np.ndarray], class_names: Sequence[str], title: str
) -> Figure:
    """How the maps of every class near a reference as samples are added: measured points, and the law as lines.

    Args:
        curves: by what the panel's title says, the response and its curves for K classes.
        n0: by response, N0 of each class [K], masked where it is not known.
        class_names: K names.
        title: what was done.
    """
    columns = min(2, len(curves))
    rows = math.ceil(len(curves) / columns)
    legend = (
        "Points: measured, corrected for the noise of the reference. Lines: 1/sqrt(1 + N0/N), N0 from the split half."
    )
    figure = sheet(4.6 * columns + 1.3, 3.1 * rows + 0.9, title, legend)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    colors = colormaps["turbo"](np.linspace(0.08, 0.95, len(class_names)))  # many classes: hue tells them apart
    for ax in axes.flat[len(curves) :]:
        ax.set_visible(False)
    for ax, (what, (response, curve)) in zip(axes.flat, curves.items(), strict=False):
        fine = np.geomspace(curve.num_samples[0] / 2, curve.num_samples[-1] * 2, 100)
        for k, name in enumerate(class_names):
            half = n0[response][k]
            if half is not np.ma.masked:
                ax.plot(fine, 1 / np.sqrt(1 + half / fine), color=colors[k], linewidth=0.8, alpha=0.6)
            known = "" if half is np.ma.masked else f" ($N_0$ {_short(half)})"
            ax.plot(
                curve.num_samples, curve.correlation[:, k], "o", color=colors[k], markersize=3.5, label=f"{name}{known}"
            )
        ax.set_xscale("log")
        ax.set_ylim(-0.15, 1.05)
        ax.axhline(0, color=QUIET, linewidth=0.5)
        ax.set_title(what, fontsize=9, loc="left")
        ax.legend(fontsize=6, frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("correlation r(N)", fontsize=8)
    for ax in axes.flat[: len(curves)]:
        ax.set_xlabel("samples N", fontsize=8)
        ax.tick_params(labelbottom=True)
        ax.tick_params(which="minor", labelbottom=False)
    return figure


def _draw_matrix(ax: Axes, values_ss: np.ma.MaskedArray) -> None:
    """Correlations of every two networks, as colours and numbers."""
    ax.imshow(values_ss.filled(0), cmap=DIVERGING, vmin=-1.2, vmax=1.2)
    for (i, j), value in np.ndenumerate(values_ss.filled(np.nan)):
        text = "?" if np.isnan(value) else f"{value:.2f}".replace("0.", ".")
        ax.text(j, i, text, ha="center", va="center", fontsize=min(7, 21 / len(values_ss)))


def _mark_reliability(ax: Axes, images: ClassificationImages, halves: SplitHalf, k: int) -> None:
    if not images.images[k].count():
        return
    reliability = halves.reliability[k]
    known = reliability is not np.ma.masked
    good = known and reliability >= RELIABLE
    text = f"reliability {reliability:.2f}" if known else "reliability unknown"
    if known and not good and halves.n0[k] is not np.ma.masked:
        # Spearman-Brown: reliability N / (N + N0) reaches R at N = N0 R / (1 - R).
        text += f", .9 at {_short(halves.n0[k] * RELIABLE / (1 - RELIABLE))}"
    ax.text(0.5, 1.12, text, transform=ax.transAxes, ha="center", fontsize=6.5, color=QUIET if good else BAD)


def _short(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{0 if number >= 10 * size else 1}f}{unit}"
    return f"{number:.0f}"


def _why_empty(images: ClassificationImages, k: int) -> str:
    if images.count[k] == 0:
        return "empty:\nno sample"
    if images.images[k].count():
        return "too few\nsamples for\nan error"
    return "no map:\nall samples\nare alike"


def _amount(response: str, images: ClassificationImages, k: int) -> str:
    share = images.share[k]
    if response != "decision":
        return f"mean {share:.2g}"
    if not images.count[k]:
        return "0"
    percent = f"{100 * share:.2g}" if share < 0.01 else f"{100 * share:.1f}" if share <= 0.99 else f"{100 * share:.4g}"
    return f"{images.count[k]:,} ({percent}%)"


def _caption(ax: Axes, amount: str, answer: Feedback | None, k: int, class_names: Sequence[str]) -> None:
    ax.set_title(amount, fontsize=7, pad=2)
    if answer is not None:
        right = answer.predicted == k
        text = f"{'✓' if right else '✗'} {class_names[answer.predicted]} {answer.confidence:.2f}"
        ax.set_xlabel(text, fontsize=7.5, labelpad=2, color=GOOD if right else BAD)
