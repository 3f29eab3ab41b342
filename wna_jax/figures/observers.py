"""The figure of several observers: the group's map with its tests, and the map of each."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from wna_jax.figures.parts import COLOURS, limit_of
from wna_jax.figures.tiles import IN_COLOUR, Row, Tiles
from wna_jax.maps import ClassificationImages
from wna_jax.statistics import Findings
from wna_jax.statistics.findings import CLUSTER_THRESHOLD

_COLUMNS = 6
_LINE = 0.125  # inches


def observers(
    group: Findings,
    picture: np.ma.MaskedArray,
    people: Mapping[str, tuple[ClassificationImages, Sequence[str]]],
    title: str,
    headings: Sequence[str],
    mapped: str = "",
) -> Figure:
    """The group's map (the first of `group`) in standard errors with what each test finds, and the map of everyone.

    In the first row: the map with significant pixels, clusters and TFCE, the smoothed map in its own scale, and the map
    as a `picture` [H, W, C] in [0, 1]; the `headings` of these three. Below, if there are several people, the map of
    each in its own standard errors, all on one scale, with lines of small print. `mapped` says what positive means.
    """
    z, names = group.in_standard_errors[0], list(people) if len(people) > 1 else []
    blocks = math.ceil(len(names) / _COLUMNS)
    columns = max(3, math.ceil(len(names) / max(blocks, 1)))
    lines = max((len(text) for _, text in people.values()), default=0)
    channels = z.shape[-1]
    legend = (
        f"In standard errors. {mapped} Outlined, and counted below: p < .05 over the whole map, for each test "
        f"separately; single pixels black, clusters of |z| > {CLUSTER_THRESHOLD:g} green, TFCE violet; a cluster is "
        "significant as a whole. "
    )
    if names:
        legend += (
            "Participants: each map in the error of its own trials. r with others: correlation with the mean map of "
        )
        legend += "the others, of the other half of the stimuli; in brackets without the noise of both. "
    legend += IN_COLOUR * (channels == 3)
    rows = [Row("group" if names else "map", 0.1 + _LINE * max(2, *(text.count("\n") + 1 for text in headings)), 0.5)]
    rows += [Row("participants", 0.22, 0.08 + _LINE * lines)] * blocks
    tiles = Tiles(rows, columns, z.shape, title, legend.strip(), width=1.45, right=0.6)
    drawn = [(z, ("pixels", "clusters", "TFCE")), (group.smoothed[0], ("smoothed",))]
    colours = {"pixels": "#222222", "clusters": COLOURS[2], "TFCE": COLOURS[3], "smoothed": "#222222"}
    limits = [limit_of(image) for image, _ in drawn]
    for column, ((image, tests), limit) in enumerate(zip(drawn, limits, strict=True)):
        tiles.map(0, column, image, limit, "no map:\nall answers\nare equal")
        counts = []
        for test in tests[::-1]:  # single pixels on top
            inside = group.significant[test]
            if inside is not None and image.count():
                tiles.outline(0, column, inside[0].any(axis=-1), channels, colours[test])
            counts.append(
                f"{test} " + ("not tested" if inside is None else f"{inside[0].sum()} of {group.z[0].count()}")
            )
        tiles.below(0, column, "\n".join(counts[::-1]))
    if picture.count():
        tiles.image(0, 2, picture.filled(0.5))
    own_scale = f"\nfull colour at ±{limits[1]:.0f}"
    for column, heading in enumerate(headings):
        tiles.above(0, column, heading + own_scale * (column == 1))
    tiles.scale([0], columns, limits[0], channels)
    shown = {who: people[who][0].in_standard_errors[0] for who in names}
    if shown:
        own_limit = limit_of(np.ma.stack(list(shown.values())))
        for i, (who, image) in enumerate(shown.items()):
            row, column = 1 + i // columns, i % columns
            tiles.map(row, column, image, own_limit, "no map:\nall answers\nare equal")
            tiles.above(row, column, who, fontsize=9, fontweight="bold")
            tiles.below(row, column, "\n".join(people[who][1]))
        tiles.scale(range(1, len(rows)), columns, own_limit, channels)
    return tiles.figure
