"""Figures of the maps of all classes: with their feed-back, across networks, with their tests, as they converge."""

import itertools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wna_jax.figures.captions import amount, prior_said, reliability_said, short, why_empty
from wna_jax.figures.parts import BAD, COLOURS, GOOD, QUIET, all_of, head, limit_of, panel_sheet
from wna_jax.figures.tiles import IN_COLOUR, Row, Tiles
from wna_jax.maps import ClassificationImages
from wna_jax.posterior import PosteriorMaps
from wna_jax.statistics import Contrast, Convergence, Findings, SplitHalf
from wna_jax.statistics.findings import CLUSTER_THRESHOLD, SMOOTHING
from wna_jax.studies.ensembles import Agreement
from wna_jax.templates import Feedback

_COLUMNS = 10
_MARKERS = "os^Dv<>pPX*hd"  # with ten colours, so that 130 classes look different
_NAME: dict[str, Any] = {"fontsize": 9, "fontweight": "bold"}
_HEADED, _NAMED, _CAPTIONED = 0.28, 0.17, 0.19  # inches above a map with two lines, for a name, and below a map
_ABOUT_REGION = " Pale, beyond the yellow line: outside of the region that tests, infoVal and reliability are about."
_WITH_PRIOR = (
    " Smoothness prior: the most probable map if maps are as smooth and local as these data say; r: its expected "
    "correlation with the map of infinitely many samples, and how many times the samples a plain map needs for it."
)
MOST_CLASSES = 30
"""That a figure has room for; of more, some are `shown`."""


def classification_images(
    maps: Mapping[str, ClassificationImages],
    feedback: Mapping[str, Sequence[Feedback | None]],
    reliability: Mapping[str, SplitHalf],
    significant: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    class_means: np.ndarray | None,
    title: str,
    roi: np.ndarray | None = None,
    shown: Mapping[int, int] | None = None,
    posteriors: Mapping[str, PosteriorMaps] = MappingProxyType({}),
) -> Figure:
    """The maps of every class, one row per response, under its mean training image on the [0, 1] scale if there is one.

    All maps of a row share one scale in standard errors, with zero in the middle, so that a map that is still noise
    looks pale. Significant pixels, bool [K, H, W, C], are outlined, where a response has them. Above each map are its
    count and share (for graded responses the mean weight) and its reliability; below .9 it is marked, with the number
    of samples that would bring it there. Below the map is what the network calls it, with the confidence. Outside of a
    region of interest, bool [H, W] or [H, W, C], maps are pale. `shown` are the maps to be drawn, by their numbers, and
    the class of each; by default map k is of class k. Mean images are those of the maps' classes, and the answers of
    the feed-back, where there are some, too. Below the maps of a response are its `posteriors`, where there are some,
    in standard errors of the plain maps.
    """
    of_class = all_of(class_names) if shown is None else shown
    blocks = math.ceil(len(of_class) / _COLUMNS)
    columns = math.ceil(len(of_class) / blocks)
    pixels = next(iter(maps.values())).images.shape[1:]
    channels = pixels[-1]
    legend = IN_COLOUR if channels == 3 else "Red: brighter noise there is evidence for the class; blue: darker."
    legend += (
        " Above a map: samples of the class and their share, or the mean probability; reliability (split half), and "
        "the samples that would bring it to .9."
    )
    legend += " Below: what the network calls the map itself, and its confidence." if feedback else ""
    if significant:
        legend += " Outlined: p < .05 over all maps of the row."
    legend += _WITH_PRIOR if posteriors else ""
    legend += _ABOUT_REGION if roi is not None else ""
    below = _CAPTIONED if feedback else 0.05
    block = []
    for response in maps:
        block.append(Row(f"{response}\nmap", _HEADED, below))
        if response in posteriors:
            block.append(Row("smoothness\nprior", 0.18))
    if class_means is None:
        block[0] = block[0]._replace(above=_HEADED + _NAMED)
    else:
        block = [Row("training\nmean", 0.22), *block]
    first = int(class_means is not None)
    tiles = Tiles(block * blocks, columns, pixels, title, legend, right=0.6)
    for place, (k, own) in enumerate(of_class.items()):
        row, column = place // columns * len(block), place % columns
        if class_means is not None:
            tiles.image(row, column, class_means[k])
        tiles.above(row, column, class_names[own], 0 if first else 2, **_NAME)
    i = first
    for response, images in maps.items():
        z_khwc = images.in_standard_errors
        limit = limit_of(z_khwc[list(of_class)])
        posterior = posteriors.get(response)
        smooth_khwc = None if posterior is None else posterior.images / images.standard_error
        smooth_limit = 0.0 if smooth_khwc is None else limit_of(smooth_khwc[list(of_class)])
        for place, k in enumerate(of_class):
            row, column = place // columns * len(block) + i, place % columns
            tiles.map(row, column, z_khwc[k], limit, why_empty(images, k))
            _fade(tiles, row, column, z_khwc[k], roi)
            if response in significant:
                tiles.outline(row, column, significant[response][k].any(axis=-1), channels)
            tiles.above(row, column, amount(response, images, k))
            if images.images[k].count():
                text, good = reliability_said(reliability[response], k)
                tiles.above(row, column, text, 1, fontsize=6.5, color=QUIET if good else BAD)
            if response in feedback and (answer := feedback[response][k]):
                color = GOOD if answer.predicted == of_class[k] else BAD
                tiles.below(row, column, answer.caption(of_class[k], class_names), fontsize=7.5, color=color)
            if posterior is not None and smooth_khwc is not None:
                tiles.map(row + 1, column, smooth_khwc[k], smooth_limit, "no map")
                text, good = prior_said(posterior, k)
                tiles.above(row + 1, column, text, fontsize=6.5, color=QUIET if good else BAD)
        for start in range(i, blocks * len(block), len(block)):
            tiles.scale([start], columns, limit, channels)
            if smooth_khwc is not None:
                tiles.scale([start + 1], columns, smooth_limit, channels)
        i += 1 + (posterior is not None)
    return tiles.figure


def comparison(
    maps: Mapping[str, tuple[ClassificationImages, ClassificationImages]],
    found: Mapping[str, tuple[Contrast, Findings]],
    corrected: Mapping[str, Sequence[float | None]],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """The maps of two runs by response, on one scale in standard errors, and their difference in its own.

    `found` are the difference and its tests, of which significant pixels are outlined; `corrected` the correlations of
    the maps of each class without the noise in them.
    """
    blocks = math.ceil(len(class_names) / _COLUMNS)
    columns = math.ceil(len(class_names) / blocks)
    legend = (
        "In standard errors. r: correlation of the two maps, corrected for the noise in both; 1 means one template, "
        "and below a reliability of .2 it is unknown. "
        "Outlined: single pixels of the difference with p < .05 over all maps of the row; below it, their number."
    )
    block = [
        Row(f"{response}\n{which}", above, below)
        for response in maps
        for which, above, below in (("first", 0.34, 0.05), ("second", 0.05, 0.05), ("difference", 0.05, _CAPTIONED))
    ]
    (some, _), *_ = maps.values()
    channels = some.images.shape[-1]
    legend += f" {IN_COLOUR}" * (channels == 3)
    tiles = Tiles(block * blocks, columns, some.images.shape[1:], title, legend, right=0.6)
    for i, (response, both) in enumerate(maps.items()):
        z_maps = [own.in_standard_errors for own in both]
        difference, tests = found[response]
        shown = [*z_maps, difference.in_standard_errors]
        limits = [limit_of(np.ma.stack(z_maps))] * 2 + [limit_of(shown[2])]
        inside = tests.significant["pixels"]
        assert inside is not None
        for k, name in enumerate(class_names):
            top, column = k // columns * len(block) + 3 * i, k % columns
            r = corrected[response][k]
            tiles.above(top, column, name, 1, **_NAME)
            tiles.above(top, column, "r unknown" if r is None else f"r {r:.2f}")
            for row, (z_khwc, limit) in enumerate(zip(shown, limits, strict=True)):
                why = why_empty(both[row], k) if row < 2 else "one map\nis missing"
                tiles.map(top + row, column, z_khwc[k], limit, why)
            if shown[2][k].count():
                tiles.outline(top + 2, column, inside[k].any(axis=-1), channels)
                tiles.below(top + 2, column, f"{inside[k].sum()} of {inside[k].size}")
        for start in range(3 * i, blocks * len(block), len(block)):
            tiles.scale([start, start + 1], columns, limits[0], channels)
            tiles.scale([start + 2], columns, limits[2], channels)
    return tiles.figure


def across_networks(
    agreed: Agreement,
    response: str,
    seeds: Sequence[int],
    class_names: Sequence[str],
    class_means: np.ndarray,
    title: str,
) -> Figure:
    """The maps of networks that differ only in their training seed, their mean, and how alike they are.

    The networks' maps share one scale, in standard errors of each map. The mean map is in standard errors across
    networks, the root mean square over the pixels of the map: the error of a single pixel rests on few networks.
    """
    z_skhwc = np.ma.stack([own.in_standard_errors for own in agreed.maps])
    mean = agreed.mean / agreed.error_across_networks[:, None, None, None]
    limit, mean_limit = limit_of(z_skhwc), limit_of(mean)
    legend = (
        "Every network was shown its own noise. Mean: over networks, in standard errors across them; its r is the "
        "mean of the correlations below it. Correlations of the networks' maps are corrected for the noise of both: "
        "1 means one template, and the distance from 1 is due to the training seed."
    )
    own_rows = [Row(f"{response}\nseed {seed}", 0.18) for seed in seeds]
    rows = [Row("training\nmean", 0.22), *own_rows, Row("mean\nmap", 0.18), Row("correlation")]
    legend += f" {IN_COLOUR}" * (class_means.shape[-1] == 3)
    channels, columns, last = class_means.shape[-1], len(class_names), len(rows) - 1
    tiles = Tiles(rows, columns, class_means.shape[1:], title, legend, right=0.6)
    for k, r in enumerate(agreed.mean_corrected):
        tiles.image(0, k, class_means[k])
        tiles.above(0, k, class_names[k], **_NAME)
        for i, (own, z_khwc) in enumerate(zip(agreed.maps, z_skhwc, strict=True), start=1):
            tiles.map(i, k, z_khwc[k], limit, why_empty(own, k))
            tiles.above(i, k, amount(response, own, k))
        tiles.map(last - 1, k, mean[k], mean_limit, "fewer than\ntwo maps")
        tiles.above(last - 1, k, "r unknown" if r is np.ma.masked else f"r {r:.2f}")
        tiles.matrix(last, k, agreed.corrected[k], 1.2)
    tiles.scale(range(1, last - 1), columns, limit, channels)
    tiles.scale([last - 1], columns, mean_limit, channels)
    return tiles.figure


def significance(
    findings: Mapping[str, Findings],
    class_names: Sequence[str],
    title: str,
    roi: np.ndarray | None = None,
    shown: Mapping[int, int] | None = None,
) -> Figure:
    """What each test finds in the maps of every class, outlined in the map that it tests: two rows per response.

    Outside of the region of interest in which the maps were tested, bool [H, W] or [H, W, C], they are pale. `shown` is
    that of `classification_images`.
    """
    of_class = all_of(class_names) if shown is None else shown
    rows = [(response, smoothed) for response in findings for smoothed in (False, True)]
    colours = {"pixels": "#222222", "clusters": COLOURS[2], "TFCE": COLOURS[3], "smoothed": "#222222"}
    legend = (
        "Outlined, and counted below a map: p < .05 over all maps of the row, for each test separately; single pixels "
        f"black, clusters of |z| > {CLUSTER_THRESHOLD:g} green, TFCE violet. A cluster is significant as a whole, not "
        "each pixel of it. Deviations of noise: smoothed maps in standard deviations of those of noise only. "
        "infoVal: distance of the whole map from noise, about N(0, 1) for a map of noise only."
    )
    shape = next(iter(findings.values())).z.shape[1:]
    legend += (_ABOUT_REGION if roi is not None else "") + f" {IN_COLOUR}" * (shape[-1] == 3)
    labelled = [
        Row(f"{response}\nsmoothed\nby {SMOOTHING:g} px" if smoothed else f"{response}\nmap", above, below)
        for i, (response, smoothed) in enumerate(rows)
        for above, below in [(0.05, _CAPTIONED) if smoothed else (0.2 + 0.18 * (i == 0), 0.45)]
    ]
    tiles = Tiles(labelled, len(of_class), shape, title, legend, right=0.6)
    for column, k in enumerate(of_class.values()):
        tiles.above(0, column, class_names[k], 1, **_NAME)
    for row, (response, smoothed) in enumerate(rows):
        found = findings[response]
        maps, tests, unit = found.in_standard_errors, ["clusters", "TFCE", "pixels"], "standard errors"
        if smoothed:
            maps, tests, unit = found.smoothed, ["smoothed"], "deviations of noise"
        limit = limit_of(maps[list(of_class)])
        for column, k in enumerate(of_class):
            tiles.map(row, column, maps[k], limit, "no map")
            _fade(tiles, row, column, maps[k], roi)
            if not smoothed and found.info_val is not None and found.info_val[k] is not np.ma.masked:
                info = f"infoVal {found.info_val[k]:.{1 if abs(found.info_val[k]) < 10 else 0}f}"
                tiles.above(row, column, info, fontsize=6.5, color=QUIET)
            counts = []
            for test in tests:
                inside = found.significant[test]
                if inside is not None and maps[k].count():
                    tiles.outline(row, column, inside[k].any(axis=-1), shape[-1], colours[test])
                said = "not tested" if inside is None else f"{inside[k].sum()} of {found.z[k].count()}"
                counts.append(said if smoothed else f"{test} {said}")
            if maps[k].count() or any(found.significant[test] is None for test in tests):
                tiles.below(row, column, "\n".join(counts[::-1]))
        tiles.scale([row], len(of_class), limit, shape[-1], unit)
    return tiles.figure


def convergence(
    curves: Mapping[str, tuple[str, Convergence]],
    n0: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    title: str,
    shown: Mapping[int, int] | None = None,
) -> Figure:
    """Correlation of the maps of every class with a reference as samples are added, and the predicted curves.

    `curves` has a response and its curves by the title of the panel; `n0` the N0 of each class [K] by response, masked
    where it is unknown. `shown` is that of `classification_images`.
    """
    of_class = all_of(class_names) if shown is None else shown
    legend = (
        "Points: measured, corrected for the noise of the reference. Lines: plain maps, 1/sqrt(1 + N0/N), N0 from "
        "split halves."
    )
    shared, lists = {"sharex": True, "sharey": True}, math.ceil(len(of_class) / 15)
    columns = 2 if len(curves) in (2, 4) else min(3, len(curves))
    figure, axes = panel_sheet(len(curves), columns, (3.3 + 1.3 * lists, 3.1), (0.6, 0.9), title, legend, **shared)
    looks = list(itertools.islice(itertools.product(_MARKERS, COLOURS), len(of_class)))
    for ax, (what, (response, curve)) in zip(axes.flat, curves.items(), strict=False):
        fine = np.geomspace(curve.num_samples[0] / 2, curve.num_samples[-1] * 2, 100)
        for (k, own), (marker, color) in zip(of_class.items(), looks, strict=True):
            half, label = n0[response][k], class_names[own]
            if half is np.ma.masked and not curve.correlation[:, k].count():
                continue  # it has no map
            if half is not np.ma.masked:
                ax.plot(fine, 1 / np.sqrt(1 + half / fine), color=color, linewidth=0.8, alpha=0.6)
                label += f" (N₀ {short(half)})"
            ax.plot(curve.num_samples, curve.correlation[:, k], marker, color=color, markersize=3.5, label=label)
        if curve.correlation.count():
            ax.legend(fontsize=6, frameon=False, ncols=lists, loc="center left", bbox_to_anchor=(1.0, 0.5))
        else:
            ax.text(
                0.5, 0.5, "no class has maps to compare", transform=ax.transAxes, ha="center", color=QUIET, fontsize=8
            )
        ax.set(xscale="log", ylim=(-0.15, 1.05))
        ax.axhline(0, color=QUIET, linewidth=0.5)
        head(ax, what, 9, 8)
        ax.set_xlabel("samples N", fontsize=8)
        ax.tick_params(labelbottom=True)
        ax.tick_params(which="minor", labelbottom=False)
    for ax in axes[:, 0]:
        ax.set_ylabel("correlation r(N)", fontsize=8)
    return figure


def _fade(tiles: Tiles, row: int, column: int, map_hwc: np.ma.MaskedArray, roi: np.ndarray | None) -> None:
    if roi is not None and map_hwc.count():
        tiles.fade(row, column, roi.reshape(*roi.shape[:2], -1).max(axis=-1), map_hwc.shape[-1])
