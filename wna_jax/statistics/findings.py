"""All tests of a set of maps in one call, each in the form that is valid for the samples."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wna_jax.correlation.fields import Overlap
from wna_jax.maps import ClassificationImages
from wna_jax.runs.errors import InputError
from wna_jax.statistics import clusters
from wna_jax.statistics.checks import as_maps, check_alpha, in_region, region_of
from wna_jax.statistics.nulls import null_z_maps
from wna_jax.statistics.significance import Contrast, info_val, significant_pixels, z_map

CLUSTER_THRESHOLD = 2.3
SMOOTHING = 2.0
"""Pixels; with less smoothing, random field theory gains little over single pixels."""
_FOR_DEVIATIONS = 400


class Findings(NamedTuple):
    """Test results for K maps, which form one family. None where no valid test is known.

    z-maps [K, H, W, C], the same smoothed by `SMOOTHING`, in standard deviations of noise-only maps, significant pixels
    by test ("pixels", "smoothed", "clusters", "TFCE"), bool [K, H, W, C], infoVal [K], and the maps as they are drawn,
    divided by their standard errors [K, H, W, C].
    """

    z: np.ma.MaskedArray
    smoothed: np.ma.MaskedArray
    significant: dict[str, np.ndarray | None]
    info_val: np.ma.MaskedArray | None
    in_standard_errors: np.ma.MaskedArray

    def __repr__(self) -> str:
        """Two lines: the number of significant values, over all maps, by test."""
        num, *pixels = self.z.shape
        sums = (f"{test} {'not tested' if of is None else f'{of.sum():,}'}" for test, of in self.significant.items())
        return f"<Findings in {num} maps of {'x'.join(map(str, pixels))} pixels; significant:\n  {', '.join(sums)}>"


def findings(
    maps: ClassificationImages | Contrast,
    *,
    alpha: float = 0.05,
    permutations: int = 199,
    seed: int = 0,
    overlap: Overlap | None = None,
    roi: ArrayLike | None = None,
) -> Findings:
    """Tests maps, or a contrast, for signal: single pixels, smoothed maps, cluster mass and TFCE; computes infoVal.

    Single pixels are tested by `significant_pixels`, smoothed maps by `random_field_threshold`, clusters above 2.3 and
    TFCE by `permutation_test` against `null_z_maps`. For overlapping windows the null maps have the correlation of the
    windows (`overlap`, of the same responses), and smoothed maps and infoVal are tested against them too; so are
    smoothed maps narrower than three FWHM, where random field theory does not hold. In noise that is not white
    (`ClassificationImages.noise`) the null maps have the noise's covariance, and single pixels are tested against them
    as well: Sidak's bound holds there, but wastes power. Maps whose errors depend on each other otherwise (gradients,
    whitened maps) are tested for single pixels alone. `alpha` is the family-wise error rate of each test, over all
    maps; the smallest p of B permutations is 1 / (B + 1).

    Only pixels in a region of interest `roi`, bool [H, W] or [H, W, C], are tested, if there is one. There, and where
    single pixels are masked, smoothed maps are tested against null maps too.

    Raises:
        InputError: a region or an alpha that is none, or too few permutations for anything to be significant.
    """
    check_alpha(alpha)
    if 1 / (permutations + 1) > alpha:
        least = int(np.ceil(1 / alpha)) - 1
        raise InputError(f"permutations is {permutations}: at alpha {alpha:g} nothing can be significant below {least}")
    z, drawn = as_maps("the z-map", maps.z if isinstance(maps, Contrast) else z_map(maps), roi), maps.in_standard_errors
    num_maps, whole = len(z), bool(region_of(z).all())
    height, width, channels = z.shape[1:]
    smoothed = clusters.smooth(z, SMOOTHING)
    significant: dict[str, np.ndarray | None] = {"pixels": significant_pixels(z, alpha, num_maps)}
    dependence = maps.noise if overlap is None else overlap
    if not maps.independent and dependence is None:
        return Findings(z, smoothed, significant | dict.fromkeys(("smoothed", "clusters", "TFCE")), None, drawn)

    def nulls() -> Iterator[np.ndarray]:
        """The same for every test, and made anew: they may not fit into the memory."""
        return null_z_maps(z.shape, permutations, seed, dependence)

    def others() -> Iterator[np.ndarray]:
        """A null's own peak would inflate the deviation by which it is divided."""
        return in_region(null_z_maps(z.shape, _FOR_DEVIATIONS, seed + 1, dependence), z)

    def passes(statistic: clusters.Statistic) -> np.ndarray:
        return (clusters.permutation_test(z, nulls(), statistic, over_maps=True) <= alpha).filled(False)

    if maps.noise is not None:
        significant["pixels"] = passes(np.abs)
    if dependence is None and whole and min(height, width) > 3 * SMOOTHING * np.sqrt(8 * np.log(2)):
        threshold = clusters.random_field_threshold(height * width, SMOOTHING, alpha / 2 / channels / num_maps)
        significant["smoothed"] = (np.abs(smoothed) > threshold).filled(False)
    else:
        powers = (np.square(clusters.smooth(some, SMOOTHING)).sum(axis=0) for some in clusters.stacked(others()))
        deviation = np.ma.sqrt(sum(powers) / _FOR_DEVIATIONS)
        smoothed = smoothed / deviation
        significant["smoothed"] = passes(lambda maps: clusters.smooth(maps, SMOOTHING) / deviation)
    significant["clusters"] = passes(functools.partial(clusters.cluster_mass, threshold=CLUSTER_THRESHOLD))
    significant["TFCE"] = passes(clusters.tfce)
    # The median and spread of infoVal's null need more maps than a rank does.
    return Findings(z, smoothed, significant, info_val(z, None if dependence is None else others()), drawn)
