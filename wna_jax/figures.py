"""Figures for people. matplotlib lives only here; every function returns a Figure, made without global state."""

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from wna_jax.maps import ClassificationImages
from wna_jax.statistics import Convergence, Findings, SplitHalf
from wna_jax.statistics.findings import CLUSTER_THRESHOLD, SMOOTHING
from wna_jax.templates import Feedback

_COLUMNS = 10
_PANEL = 1.25  # inches
_DIVERGING = "RdBu_r"
RELIABLE = 0.9
"""Split-half reliability from which on a map is not marked."""
_GOOD, _BAD, _QUIET = "#1a7f37", "#b3261e", "#6b6b6b"


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
    figure = Figure(figsize=(_PANEL * columns + 1.4, blocks * (_PANEL + 0.3 + (_PANEL + 0.52) * len(maps)) + 0.9))
    letters = int(11 * figure.get_figwidth())  # that fit beside one another
    figure.suptitle(textwrap.fill(title, letters), x=0.01, ha="left", fontsize=11, parse_math=False)
    figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02, hspace=0.02)
    legend = (
        "Red: brighter noise there speaks for the class; blue: darker. Above a map: samples of the class and their "
        "share, or mean probability; reliability (split half), and the samples that would bring it to .9. Below: what "
        "the network calls the map itself, and its confidence."
    )
    if significant:
        legend += " Outlined: p < .05 over all maps of the row."
    figure.supxlabel(textwrap.fill(legend, int(1.35 * letters)), x=0.01, ha="left", fontsize=8, color=_QUIET)
    axes = figure.subplots(blocks * rows, columns, squeeze=False)
    for ax in axes.flat:
        _bare(ax)
    for k, name in enumerate(class_names):
        block, column = divmod(k, columns)
        top = axes[block * rows, column]
        _draw_image(top, class_means[k])
        top.set_title(name, fontsize=9, fontweight="bold", parse_math=False)
    for row, (response, images) in enumerate(maps.items(), start=1):
        z_khwc = images.images / images.standard_error
        limit = _limit(z_khwc)
        for k in range(len(class_names)):
            block, column = divmod(k, columns)
            ax = axes[block * rows + row, column]
            _draw_map(ax, z_khwc[k], limit, _why_empty(images, k))
            if response in significant:
                _outline(ax, significant[response][k].any(axis=-1))
            _caption(ax, _amount(response, images, k), feedback[response][k], k, class_names)
            _mark_reliability(ax, images, reliability[response], k)
        for block in range(blocks):
            line = axes[block * rows + row]
            line[0].set_ylabel(f"{response}\nmap", fontsize=9)
            _scale(figure, line, limit, z_khwc.shape[-1])
    for block in range(blocks):
        axes[block * rows, 0].set_ylabel("training\nmean", fontsize=9)
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
    figure = Figure(figsize=(_PANEL * columns + 1.4, (_PANEL + 0.28) * len(rows) + 1.0))
    letters = int(11 * figure.get_figwidth())
    figure.suptitle(textwrap.fill(title, letters), x=0.01, ha="left", fontsize=11, parse_math=False)
    figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02, hspace=0.02)
    legend = (
        "Outlined: p < .05 over all maps of the row, each test by itself. Below a map: how many values are. A cluster "
        "is significant as a whole, not each pixel of it. infoVal: how far the whole map is from noise, about N(0, 1) "
        "for a map of mere noise."
    )
    figure.supxlabel(textwrap.fill(legend, int(1.35 * letters)), x=0.01, ha="left", fontsize=8, color=_QUIET)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (line, (response, test)) in enumerate(zip(axes, rows, strict=True)):
        found = findings[response]
        maps = found.smoothed if test == "smoothed" else found.z
        limit = _limit(maps)
        inside = found.significant[test]
        for k, ax in enumerate(line):
            _bare(ax)
            _draw_map(ax, maps[k], limit, "no map")
            if row == 0:
                ax.set_title(class_names[k], fontsize=9, fontweight="bold", parse_math=False, pad=13)
            if test == "pixels" and found.info_val is not None and found.info_val[k] is not np.ma.masked:
                info = f"infoVal {found.info_val[k]:.{1 if abs(found.info_val[k]) < 10 else 0}f}"
                ax.text(0.5, 1.03, info, transform=ax.transAxes, ha="center", fontsize=6.5, color=_QUIET)
            if inside is None or not maps[k].count():
                ax.set_xlabel("" if inside is not None else "not tested", fontsize=7, labelpad=2, color=_QUIET)
                continue
            _outline(ax, inside[k].any(axis=-1))
            ax.set_xlabel(f"{inside[k].sum()} of {inside[k].size}", fontsize=7, labelpad=2)
        line[0].set_ylabel(f"{response}\n{labels[test]}", fontsize=8)
        _scale(figure, line, limit, maps.shape[-1])
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
    figure = Figure(figsize=(4.6 * columns + 1.3, 3.1 * rows + 0.9), layout="constrained")
    letters = int(11 * figure.get_figwidth())
    figure.suptitle(textwrap.fill(title, letters), x=0.01, ha="left", fontsize=11, parse_math=False)
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
        ax.axhline(0, color=_QUIET, linewidth=0.5)
        ax.set_title(what, fontsize=9, loc="left")
        ax.legend(fontsize=6, frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("correlation r(N)", fontsize=8)
    for ax in axes.flat[: len(curves)]:
        ax.set_xlabel("samples N", fontsize=8)
        ax.tick_params(labelbottom=True)
    legend = (
        "Points: measured, corrected for the noise of the reference. Lines: 1/sqrt(1 + N0/N), N0 from the split half."
    )
    figure.supxlabel(textwrap.fill(legend, int(1.35 * letters)), x=0.01, ha="left", fontsize=8, color=_QUIET)
    return figure


def shares(
    counts: np.ndarray,
    errors: np.ndarray,
    mean_probabilities: np.ndarray | None,
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """How the network sorts noise: the share of samples it calls each class, on a logarithmic scale, with counts.

    Args:
        counts: decisions for each class [K].
        errors: standard errors of their shares [K], masked where they are not known.
        mean_probabilities: mean class probability [K], drawn as points, or None.
        class_names: K names.
        title: what was done.
    """
    total = counts.sum()
    figure = Figure(figsize=(max(5.0, 0.75 * len(class_names) + 1.5), 3.4), layout="constrained")
    ax = figure.subplots()
    position = np.arange(len(class_names))
    ax.bar(position, counts / total, color="#7a9cc6", label="decisions $N_k/N$ ± 2 s.e.")
    low = np.minimum(2 * np.ma.filled(errors, 0), counts / total)
    ax.errorbar(
        position, counts / total, (low, 2 * np.ma.filled(errors, 0)), fmt="none", ecolor="#33527a", elinewidth=1.2
    )
    if mean_probabilities is not None:
        ax.plot(position, mean_probabilities, "o", color="#222222", markersize=4, label="mean probability")
    floor = 0.3 / total
    ax.set_yscale("log")
    ax.set_ylim(floor, 20)
    ax.set_yticks([tick for tick in 10.0 ** np.arange(-12, 1) if tick >= floor])
    means = np.zeros(len(counts)) if mean_probabilities is None else mean_probabilities
    for k, count in enumerate(counts):
        height = max(count / total, floor)
        if height < means[k] < 4 * height:
            height = means[k]  # the number stands above the point, not on it
        ax.annotate(f"{count:,}", (k, height), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=7)
    ax.axhline(1 / len(class_names), color=_QUIET, linewidth=0.8, linestyle=":", label="equal shares")
    ax.set_xticks(position, class_names, rotation=30 if max(map(len, class_names)) > 4 else 0, fontsize=8)
    ax.set_ylabel(f"share of {total:,} noise images", fontsize=8)
    ax.tick_params(axis="y", labelsize=8)
    ax.set_title(title, loc="left", fontsize=10)
    ax.legend(fontsize=7, frameon=False, ncols=3, loc="upper right")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def speeds(
    rates: Mapping[str, Sequence[float]], captions: Sequence[str], ours: Collection[str], title: str, note: str
) -> Figure:
    """How fast programs are: a bar a variant as long as its median rate, a point a round, and what it comes to.

    Args:
        rates: samples a second in each round, by variant, drawn from the top down.
        captions: one for each variant, written behind its bar.
        ours: the variants to stand out.
        title: what was done.
        note: how, and on what.
    """
    figure = Figure(figsize=(9.0, 0.5 * len(rates) + 1.25), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    ax = figure.subplots()
    for row, ((name, values), caption) in enumerate(zip(rates.items(), captions, strict=True)):
        color = "#2f6db5" if name in ours else "#b9bec6"
        ax.barh(row, np.median(values), color=color, height=0.62)
        ax.plot(values, [row] * len(values), "o", color="#222222", markersize=2.5, alpha=0.6)
        ax.annotate(caption, (max(values), row), (6, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_xlim(0, 1.65 * max(map(max, rates.values())))
    ax.set_yticks(range(len(rates)), rates, fontsize=9)
    for label in ax.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in ours else "normal")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set_xlabel(note, fontsize=8, color=_QUIET, loc="left")
    ax.tick_params(axis="x", labelsize=8, colors=_QUIET)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


def gallery(
    images: np.ndarray, row_labels: Sequence[str], title: str, captions: Sequence[Sequence[str]] = ()
) -> Figure:
    """A grid of images on the [0, 1] scale, a labelled row each; values outside are drawn as black or white.

    Args:
        images: [rows, columns, H, W, C].
        row_labels: one for each row.
        title: what is seen.
        captions: optional text below each image, [rows][columns].
    """
    rows, columns = images.shape[:2]
    label_width = 0.085 * max(map(len, row_labels), default=0)
    height = 0.95 * (1.28 if captions else 1.03)
    figure = Figure(figsize=(max(4.0, 0.95 * columns + label_width), height * rows + 0.45))
    figure.suptitle(title, x=0.02, ha="left", fontsize=10)
    figure.set_layout_engine("constrained", h_pad=0.01, w_pad=0.01)
    axes = figure.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        for column in range(columns):
            ax = axes[row, column]
            _bare(ax)
            _draw_image(ax, images[row, column])
            if captions:
                ax.set_xlabel(captions[row][column], fontsize=7, labelpad=2)
        axes[row, 0].set_ylabel(row_labels[row], rotation=0, ha="right", va="center", fontsize=8)
    return figure


def template_accuracies(rows: Sequence[Mapping[str, Any]], chance: float, title: str) -> Figure:
    """Test accuracy of each kind of templates with its 95% interval, grouped by the noise that they come from.

    Args:
        rows: each with noise, response, variant, test_accuracy, interval_95 and authors_rule_test_accuracy.
        chance: accuracy of a guess.
        title: what was done.
    """
    figure = Figure(figsize=(8.5, 0.21 * len(rows) + 1.5), layout="constrained")
    figure.suptitle(textwrap.fill(title, 115), x=0.01, ha="left", fontsize=10)
    ax = figure.subplots()
    names = list(dict.fromkeys(row["noise"] for row in rows))
    place, labels = 0.0, []
    for name in names:
        members = [row for row in rows if row["noise"] == name]
        color = f"C{names.index(name)}"
        top = place
        for row in members:
            accuracy, (low, high) = row["test_accuracy"], row["interval_95"]
            ax.plot([low, high], [place, place], color=color, linewidth=3, solid_capstyle="butt", alpha=0.5)
            ax.plot(accuracy, place, "o", color=color, markersize=4, label="chosen rule, 95% interval" * (place == 0))
            ax.plot(
                row["authors_rule_test_accuracy"],
                place,
                "x",
                color=_QUIET,
                markersize=4,
                label="the authors' cosine rule" * (place == 0),
            )
            ax.annotate(f"{accuracy:.3f}", (high, place), (4, 0), textcoords="offset points", va="center", fontsize=6.5)
            labels.append((place, f"{row['response']} {row['variant']}".strip()))
            place += 1
        ax.text(
            1.04, (top + place - 1) / 2, name, transform=ax.get_yaxis_transform(), fontsize=9, color=color, va="center"
        )
        place += 0.7
    ax.axvline(chance, color=_QUIET, linewidth=0.8, linestyle=":", label=f"chance {chance:g}")
    ax.set_yticks([at for at, _ in labels], [text for _, text in labels], fontsize=7)
    ax.set_ylim(place - 0.2, -1)
    ax.set_xlim(0, 1)
    ax.set_xlabel("test accuracy", fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", length=0)
    ax.legend(fontsize=7, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


def confusions(matrices: Mapping[str, np.ndarray], class_names: Sequence[str], title: str) -> Figure:
    """Confusion matrices side by side: row the true class, column the answer, in per cent of the true class.

    Args:
        matrices: counts [K, K] by what is written above each.
        class_names: K names.
        title: what is seen.
    """
    columns = min(2, len(matrices))
    lines = math.ceil(len(matrices) / columns)
    side = 0.32 * len(class_names) + 0.9
    figure = Figure(figsize=(columns * side + 0.6, lines * (side + 0.3) + 0.4), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(22 * columns * side / 1.8)), x=0.01, ha="left", fontsize=10)
    axes = figure.subplots(lines, columns, squeeze=False)
    for ax in axes.flat[len(matrices) :]:
        ax.set_visible(False)
    for ax, (name, counts) in zip(axes.flat, matrices.items(), strict=False):
        percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        for (i, j), value in np.ndenumerate(percent):
            if value > 0.5:
                ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=6.5, color="w" if value > 55 else "k")
        ax.set_title(name, fontsize=8, loc="left", parse_math=False)
        slant = 60 if max(map(len, class_names)) > 2 else 0
        ax.set_xticks(
            range(len(class_names)), class_names, fontsize=7, rotation=slant, ha="right" if slant else "center"
        )
        ax.set_yticks(range(len(class_names)), class_names, fontsize=7)
        ax.tick_params(length=0)
        ax.set_ylabel("true class", fontsize=7)
        ax.set_xlabel("answer", fontsize=7)
    return figure


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _draw_image(ax: Axes, image_hwc: np.ndarray) -> None:
    if image_hwc.shape[-1] == 1:
        ax.imshow(image_hwc[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        ax.imshow(np.clip(image_hwc, 0, 1))


def _draw_map(ax: Axes, z_hwc: np.ma.MaskedArray, limit: float, why_empty: str) -> None:
    if not z_hwc.count():
        height, width = z_hwc.shape[:2]
        ax.imshow(np.ones((height, width)), cmap="gray", vmin=0, vmax=1)
        for spine in ax.spines.values():
            spine.set(visible=True, color=_QUIET, linestyle=":")
        ax.text(0.5, 0.5, why_empty, transform=ax.transAxes, ha="center", va="center", fontsize=7, color=_QUIET)
    elif z_hwc.shape[-1] == 1:
        ax.imshow(z_hwc[..., 0], cmap=_DIVERGING, vmin=-limit, vmax=limit)
    else:
        ax.imshow(np.clip(0.5 + z_hwc.filled() / (2 * limit), 0, 1))


def _outline(ax: Axes, inside_hw: np.ndarray) -> None:
    """A line around the pixels inside, along their edges."""
    if inside_hw.any():
        (height, width), fine = inside_hw.shape, 6
        edges = np.pad(np.kron(inside_hw, np.ones((fine, fine))), 1)  # the line follows pixels, not their centres
        margin = 1 / fine
        extent = (-0.5 - margin, width - 0.5 + margin, -0.5 - margin, height - 0.5 + margin)
        ax.contour(edges, levels=[0.5], colors="#222222", linewidths=0.4, extent=extent)


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
    ax.text(0.5, 1.12, text, transform=ax.transAxes, ha="center", fontsize=6.5, color=_QUIET if good else _BAD)


def _short(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{0 if number >= 10 * size else 1}f}{unit}"
    return f"{number:.0f}"


def _scale(figure: Figure, line: Sequence[Axes], limit: float, channels: int) -> None:
    """What the colours of a row of maps mean."""
    if channels == 1:
        scale = ScalarMappable(Normalize(-limit, limit), _DIVERGING)
        bar = figure.colorbar(scale, ax=line, shrink=0.85, fraction=0.012, pad=0.01, aspect=10, extend="both")
        bar.set_label("standard errors", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    else:
        said = f"grey: 0\nblack, white:\n±{limit:.0f} s.e."
        line[-1].annotate(said, (1.08, 0.5), xycoords="axes fraction", fontsize=7, va="center")


def _limit(z_khwc: np.ma.MaskedArray) -> float:
    """Where the scale ends: above all but the strongest half per cent of pixels, and where mere noise stays pale."""
    strength = np.abs(z_khwc.compressed())
    return max(6.0, float(np.quantile(strength, 0.995))) if strength.size else 6.0


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
        ax.set_xlabel(text, fontsize=7.5, labelpad=2, color=_GOOD if right else _BAD)
