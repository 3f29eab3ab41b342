"""The figure of several observers: the group's map with its tests, and the map of each."""

import math

import numpy as np
from matplotlib.figure import Figure

from wna_jax.figures.parts import COLOURS, limit_of, percent
from wna_jax.figures.tiles import IN_COLOUR, Row, Tiles
from wna_jax.observers import Group, scaled
from wna_jax.statistics.findings import CLUSTER_THRESHOLD

_COLUMNS = 6
_LINE = 0.125  # inches
_EMPTY = "no map:\nall answers\nare equal"


def observers(group: Group, title: str, picture: np.ndarray | None = None, answer: str = "yes") -> Figure:
    """The group's map in standard errors with what each test finds, as a picture, and the map of everyone.

    In the first row: the map with significant pixels, clusters and TFCE; the smoothed map, in its own scale; the map as
    a picture, or the picture [H, W, C] given, such as the map on a base image (`observers.on_base`); of one person in
    white noise also the map with a smoothness prior (`Analysis.posterior`). Below, if there
    are several people, the map of each in its own standard errors, all on one scale, with trials and the share of the
    `answer` ("yes", or "first" of two), reliability, infoVal, and how it agrees with the others. ICCs stand behind the
    title.
    """
    z, found = group.findings.in_standard_errors[0], group.findings
    names = list(group.analyses) if len(group.analyses) > 1 else []
    blocks = math.ceil(len(names) / _COLUMNS)
    alone = None if names else next(iter(group.analyses.values())).posterior("choice")
    columns = max(3 + (alone is not None), math.ceil(len(names) / max(blocks, 1)))
    channels, icc = z.shape[-1], group.agreement.icc
    title += f"; ICC(2,k) {icc.average:.2f}, ICC(2,1) {icc.single:.2f}" if icc else ""
    for_ = "the choice" if answer == "first" else f"“{answer}”"
    legend = (
        f"In standard errors. Red: brighter noise there speaks for {for_}, blue: darker noise. Outlined, and counted "
        "below: p < .05 over the whole map, for each test separately; single pixels black, clusters of |z| > "
        f"{CLUSTER_THRESHOLD:g} green, TFCE violet; a cluster is significant as a whole. "
    )
    if names:
        legend += (
            "Participants: each map in the error of its own trials. r with others: correlation with the mean map of "
        )
        legend += (
            "the others, of the other half of the stimuli; in brackets without the noise of both, where that is known. "
        )
    legend += IN_COLOUR * (channels == 3)
    headings = _headings(group)
    rows = [Row("group" if names else "map", 0.1 + _LINE * max(text.count("\n") + 1 for text in headings), 0.5)]
    rows += [Row("participants", 0.22, 0.46)] * blocks
    tiles = Tiles(rows, columns, z.shape, title, legend.strip(), width=1.45, right=0.6)
    drawn = [(z, ("pixels", "clusters", "TFCE")), (found.smoothed[0], ("smoothed",))]
    colours = {"pixels": "#222222", "clusters": COLOURS[2], "TFCE": COLOURS[3], "smoothed": "#222222"}
    limits = [limit_of(image) for image, _ in drawn]
    for column, ((image, tests), limit) in enumerate(zip(drawn, limits, strict=True)):
        tiles.map(0, column, image, limit, _EMPTY)
        counts = []
        for test in tests[::-1]:  # single pixels on top
            inside = found.significant[test]
            if inside is not None and image.count():
                tiles.outline(0, column, inside[0].any(axis=-1), channels, colours[test])
            counts.append(
                f"{test} " + ("not tested" if inside is None else f"{inside[0].sum()} of {found.z[0].count()}")
            )
        tiles.below(0, column, "\n".join(counts[::-1]))
    if z.count():
        tiles.image(0, 2, np.ma.filled(scaled(group.map.images[0]) if picture is None else picture, 0.5))
    smoothed, shown_as = (
        f"smoothed\nfull colour at ±{limits[1]:.0f}",
        "as a picture" if picture is None else "on the base image",
    )
    for column, heading in enumerate((headings[0], smoothed, shown_as)):
        tiles.above(0, column, heading)
    if alone is not None and alone.priors[0]:
        smooth = (alone.images / next(iter(group.analyses.values())).maps["choice"].standard_error)[0]
        tiles.map(0, 3, smooth, limits[0], _EMPTY)
        heading = "with a smoothness prior" if alone.p_value[0] < 0.05 else f"no structure (p {alone.p_value[0]:.2f})"
        tiles.above(0, 3, f"{heading}\nexpected r {alone.expected_correlation[0]:.2f}")
        tiles.below(0, 3, f"plain {alone.plain_correlation[0]:.2f}: as of\n{alone.gain[0]:.1f} times the trials")
    tiles.scale([0], columns, limits[0], channels)
    shown = {who: group.analyses[who].maps["choice"].in_standard_errors[0] for who in names}
    limit = limit_of(np.ma.stack(list(shown.values()))) if shown else 0.0
    for i, (who, image) in enumerate(shown.items()):
        row, column = 1 + i // columns, i % columns
        tiles.map(row, column, image, limit, _EMPTY)
        tiles.above(row, column, who, fontsize=9, fontweight="bold")
        tiles.below(row, column, "\n".join(_small_print(group, i, who, answer)))
    if shown:
        tiles.scale(range(1, len(rows)), columns, limit, channels)
    return tiles.figure


def _headings(group: Group) -> list[str]:
    if group.map.degrees_of_freedom is not None:
        whose = f"mean of {group.with_a_map} maps,\nerror across participants\nand stimuli"
    else:
        whose = "all trials together" if len(group.analyses) > 1 else next(iter(group.analyses))
    info = group.findings.info_val
    return [whose + ("" if info is None or info[0] is np.ma.masked else f"\ninfoVal {info[0]:.1f}"), "\n"]


def _small_print(group: Group, i: int, who: str, answer: str) -> list[str]:
    moments, agreed = group.analyses[who].moments["choice"], group.agreement
    reliability, r, corrected = agreed.reliability[i], agreed.correlation[i], agreed.corrected[i]
    lines = [f"{moments.num_samples:,} trials, {percent(moments.count[0] / moments.num_samples)} {answer}"]
    lines.append(f"reliability {_number(reliability, 2)}, infoVal {_number(group.info_val[who], 1)}")
    if r is not np.ma.masked:
        lines.append(f"r with others {r:.2f}" + ("" if corrected is np.ma.masked else f" ({corrected:.2f})"))
    return lines


def _number(value: float | None, digits: int) -> str:
    return "unknown" if value is None or value is np.ma.masked else f"{value:.{digits}f}"
