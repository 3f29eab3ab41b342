"""Maps of few samples, plain and with a smoothness prior."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from wna_jax.figures.parts import limit_of
from wna_jax.figures.tiles import IN_COLOUR, Row, Tiles
from wna_jax.maps import ClassificationImages
from wna_jax.posterior import PosteriorMaps


def with_and_without_prior(
    maps: Mapping[str, tuple[ClassificationImages, PosteriorMaps]],
    reference: ClassificationImages,
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """The maps of each class in pairs of rows, plain and with the prior, by what the rows are of; last the reference.

    Each row has its own scale, in standard errors of its plain maps.
    """
    rows = [Row(label, 0.05 + 0.2 * (i == 0)) for i, of in enumerate(maps) for label in (f"{of}\nplain", "with\nprior")]
    rows[1::2] = [row._replace(above=0.05) for row in rows[1::2]]
    channels = reference.images.shape[-1]
    note = "Each row in standard errors of its plain maps. Last row: what the maps would be with very many samples."
    tiles = Tiles(
        [*rows, Row("reference", 0.15)],
        len(class_names),
        reference.images.shape[1:],
        title,
        note + f" {IN_COLOUR}" * (channels == 3),
        right=0.6,
    )
    z_maps = []
    for plain, posterior in maps.values():
        z_maps += [plain.in_standard_errors, posterior.images / plain.standard_error]
    for row, z_khwc in enumerate([*z_maps, reference.in_standard_errors]):
        limit = limit_of(z_khwc)
        for k, name in enumerate(class_names):
            if row == 0:
                tiles.above(row, k, name, fontsize=9, fontweight="bold")
            tiles.map(row, k, np.ma.masked_array(z_khwc[k]), limit, "no map")
        tiles.scale([row], len(class_names), limit, channels)
    return tiles.figure
