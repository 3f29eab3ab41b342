"""Tests of neighbouring pixels together: smoothing with random field theory, cluster mass, TFCE, permutation tests.

Neighbours are pixels of one channel that share an edge (4-connectivity). A cluster has one sign. z-maps are
[..., H, W, C], N(0, 1) at each pixel where there is no signal; results have the same shape and mask. What is masked, or
outside of a region of interest `roi` (bool [H, W] or [H, W, C]), is no neighbour and adds nothing.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage, optimize, special

from wna_jax.runs.errors import InputError
from wna_jax.statistics.checks import as_maps, check_alpha, check_at_least, in_region

Statistic = Callable[[np.ndarray], np.ndarray]
"""z-maps [..., H, W, C] -> signed statistic per pixel, same shape: `tfce`, or `cluster_mass` with its threshold."""

_PIXELS_AT_ONCE = 2**20
_NEIGHBOURS = np.zeros((3, 3, 3), int)
_NEIGHBOURS[1] = ndimage.generate_binary_structure(2, 1)


def smooth(z: ArrayLike, deviation: float, roi: ArrayLike | None = None) -> np.ma.MaskedArray:
    """Smooths z-maps over H and W with a Gaussian of `deviation` pixels; noise keeps mean 0 and variance 1 everywhere.

    Z' = sum_j g_ij Z_j / sqrt(sum_j g_ij^2), g Gaussian, over the pixels j of the image that are not masked. Near an
    edge fewer pixels contribute, and the divisor is smaller accordingly. The noise must be independent between pixels.

    Common mistakes: an ordinary Gaussian filter, whose output has a variance far below 1 and a different one at the
    edges; the threshold for unsmoothed maps (`max_statistic_threshold`), which is valid here but less powerful.

    Raises:
        InputError: the deviation is not above 0.
    """
    z = as_maps("the z-map", z, roi)
    _check_deviation(deviation)
    rows, columns = (_gaussian(length, deviation) for length in z.shape[-3:-1])
    present = _planes(np.ma.masked_array(np.ones(z.shape), z.mask))
    power = rows**2 @ present @ columns**2  # at least 1 where something is present
    return _maps(rows @ _planes(z) @ columns / np.sqrt(np.maximum(power, 1)), z)


def random_field_threshold(area: float, deviation: float, alpha: float = 0.05) -> float:
    """One-sided threshold that the maximum of a smoothed noise-only map exceeds with probability `alpha`.

    By random field theory P(max Z > t) ~ sum_d R_d EC_d(t), with R_d = V_d / FWHM^d, V = (1, half the perimeter of a
    disk, area) and FWHM = deviation sqrt(8 ln 2), that of `smooth`. Bonferroni's threshold for `area` pixels (of one
    channel) is returned where it is lower (Chauvin, Worsley, Schyns, Arguin & Gosselin 2005, Journal of Vision
    5(9):659-667). Alpha is the family-wise error rate for one sign: for |z| pass alpha / 2, for C channels divide by C.

    In a region of interest `area` is its number of pixels; one with a long outline for its area needs null maps instead
    (`findings` takes these).

    Reading the result: 3.302 for 36,798 pixels smoothed by 20 (paper: 3.30). On 28x28 pixels smoothing by less than 1
    gains nothing; smoothing by 2 lowers the threshold by .3.
    Common mistakes: comparing |z| with the threshold of a one-sided alpha; a deviation below about 2.2 pixels (FWHM
    5), where the theory is conservative; a map narrower than three FWHM.

    Raises:
        InputError: an area below 1, a deviation not above 0, or an alpha that is not a significance level.
    """
    fwhm = _checked_fwhm(area, deviation, alpha)
    half_perimeter = np.sqrt(np.pi * area)

    def expected_peaks(t: float) -> float:
        ec_1 = np.sqrt(4 * np.log(2)) / (2 * np.pi) * np.exp(-(t**2) / 2)
        return float(special.ndtr(-t) + half_perimeter / fwhm * ec_1 + area / fwhm**2 * _ec_2(t))

    one_test, bonferroni = -special.ndtri(alpha), float(-special.ndtri(alpha / area))
    if expected_peaks(bonferroni) >= alpha:
        return bonferroni
    return float(optimize.brentq(lambda t: expected_peaks(t) - alpha, one_test, bonferroni))


def random_field_cluster_size(area: float, deviation: float, alpha: float = 0.05, threshold: float = 2.7) -> float:
    """Pixels that the largest cluster above `threshold` of a smoothed noise-only map has with probability `alpha`.

    P(K >= k) = 1 - exp(-R_2 EC_2(t) p), p = exp(-EC_2(t) k / (FWHM^2 P(Z > t))) (Friston et al. 1994; Chauvin et al.
    2005). Equation 8 of Chauvin et al. has an extra factor sqrt(2 pi); their published numbers follow without it. The
    size is 0 where even a single cluster is rarer than alpha. Arguments are those of `random_field_threshold`.

    Reading the result: 861.1 for 36,798 pixels smoothed by 20 (paper: 861.7). The cluster as a whole is significant,
    not each of its pixels.
    Common mistakes: choosing the threshold after seeing the map; little smoothing (FWHM below 5 pixels).

    Raises:
        InputError: as `random_field_threshold`, or a threshold below 2.3, where the theory does not hold.
    """
    fwhm = _checked_fwhm(area, deviation, alpha)
    check_at_least("threshold", threshold, 2.3)
    rare = -np.log1p(-alpha) / (area / fwhm**2 * _ec_2(threshold))
    return float(max(0, -np.log(rare) * fwhm**2 * special.ndtr(-threshold) / _ec_2(threshold)))


def cluster_mass(z: ArrayLike, threshold: float, roi: ArrayLike | None = None) -> np.ma.MaskedArray:
    """Mass of the cluster that contains each pixel: sum of z over connected pixels of one sign with |z| > threshold.

    It is negative in negative clusters and 0 outside (Maris & Oostenveld 2007, Journal of Neuroscience Methods
    164:177). Any threshold fixed in advance, such as 2.3, gives a valid test.

    Reading the result: test it with `permutation_test`. The cluster as a whole is significant, not each of its pixels.
    Common mistakes: choosing the threshold by the result.

    Raises:
        InputError: a threshold below 0.
    """
    z = as_maps("the z-map", z, roi)
    check_at_least("threshold", threshold, 0)
    planes = _planes(z)
    mass = np.zeros(planes.shape)
    for inside in (planes > threshold, planes < -threshold):
        labels, _ = ndimage.label(inside, _NEIGHBOURS)
        mass[inside] = np.bincount(labels.ravel(), planes.ravel())[labels[inside]]
    return _maps(mass, z)


def tfce(z: ArrayLike, E: float = 0.5, H: float = 2.0, roi: ArrayLike | None = None) -> np.ma.MaskedArray:
    """Threshold-free cluster enhancement of every pixel, with the sign of z (Smith & Nichols 2009, NeuroImage 44:83).

    TFCE(p) = integral over h from 0 to |z_p| of e(h)^E h^H dh, with e(h) the size of p's cluster above h. The integral
    is exact: clusters change only at pixel values, so no step size is needed.

    Reading the result: test it with `permutation_test`; the values have no unit. The default exponents were chosen for
    smooth maps: in white noise, smoothing first (`smooth`) detects a weak patch more often.

    Raises:
        InputError: an exponent below 0.
    """
    z = as_maps("the z-map", z, roi)
    check_at_least("E", E, 0)
    check_at_least("H", H, 0)
    padded = np.pad(_planes(z), [(0, 0), (1, 1), (1, 1)])  # the frame separates the planes
    inner = np.flatnonzero(np.pad(np.ones(z.shape[-3:-1], bool), 1))
    own = np.argsort(-np.abs(padded.reshape(len(padded), -1)[:, inner]), axis=1, kind="stable")
    order = inner[own].T + np.arange(0, padded.size, padded[0].size)
    strength = np.abs(padded).ravel()
    parent, size = _grow(order, np.sign(padded).ravel(), padded.shape[-1])
    integral = strength ** (H + 1) / (H + 1)
    total = size**E * (integral - integral[parent])  # from a pixel's height down to its parent's
    for pixels in order[::-1]:
        total[pixels] += total[parent[pixels]]
    return _maps((total.reshape(padded.shape) * np.sign(padded))[:, 1:-1, 1:-1], z)


def permutation_max(nulls: Iterable[np.ndarray], statistic: Statistic, roi: ArrayLike | None = None) -> np.ndarray:
    """Maximum |statistic| of each null map, [B], or [B, K] where each null is a set of K maps, in a region of interest.

    Nulls are processed some at a time, so `nulls` may be a generator. A masked null (a permuted class without samples)
    has the maximum infinity, so that it counts against significance.

    Raises:
        InputError: no nulls.
    """
    maxima: list[np.ndarray] = []
    for some in stacked(nulls, roi):
        maxima.extend(np.ma.filled(_strength(statistic, some, "a null map").max(axis=(-3, -2, -1)), np.inf))
    if not maxima:
        raise InputError("no null maps given: expected at least 19 for a test at .05")
    return np.array(maxima)


def stacked(nulls: Iterable[np.ndarray], roi: ArrayLike | None = None) -> Iterator[np.ma.MaskedArray]:
    """Stacks of many null maps, as far as memory allows: a statistic is far faster with many maps at once."""
    checked = (as_maps("a null map", null, roi) for null in nulls)
    for first in checked:
        yield np.ma.stack([first, *itertools.islice(checked, _PIXELS_AT_ONCE // first.size)])


def permutation_test(
    z: ArrayLike,
    nulls: Iterable[np.ndarray],
    statistic: Statistic,
    *,
    over_maps: bool = False,
    roi: ArrayLike | None = None,
) -> np.ma.MaskedArray:
    """Family-wise p value of every pixel, p = (1 + #{null maps whose max >= the pixel's |statistic|}) / (B + 1).

    Valid for any statistic and any dependence between pixels, if the B nulls are distributed as z is without signal:
    permute responses over samples, never pixels within a map (Nichols & Holmes 2002, Human Brain Mapping 15:1; Maris &
    Oostenveld 2007).

    Nulls are z-maps of the shape of z or of one map; a list, an array, or a generator (`null_z_maps`). A statistic is
    `tfce`, `functools.partial(cluster_mass, threshold=2.3)`, `functools.partial(smooth, deviation=1)`, or `np.abs` for
    single pixels. It is computed of those pixels of z and of the nulls alone that are not masked in z, and lie in a
    region of interest `roi`, bool [H, W] or [H, W, C].

    Reading the result: the family is one map: of 20 noise-only maps one has p <= .05 somewhere. For a claim about K
    maps set over_maps, with nulls that are sets of K maps, or multiply p by K.
    Common mistakes: too few nulls (the smallest possible p is 1 / (B + 1)); nulls smoothed differently from z.

    Raises:
        InputError: no nulls, nulls of another shape, or nulls of single maps for maps masked in different pixels.
    """
    z = as_maps("the z-map", z, roi)
    strength = _strength(statistic, z, "the z-map").filled(0)

    def checked() -> Iterator[np.ndarray]:
        for null in nulls:
            if null.shape not in (z.shape, z.shape[-3:]):
                raise InputError(f"a null map has shape {null.shape}: expected {z.shape} or {z.shape[-3:]}")
            yield null

    maxima = permutation_max(in_region(checked(), z), statistic)
    if over_maps:
        if maxima.shape[1:] != z.shape[:-3]:
            raise InputError(f"nulls of single maps for z {z.shape}: with over_maps each null needs the shape of z")
        maxima = maxima.reshape(len(maxima), -1).max(axis=1)
    exceeded = sum(maximum[..., None, None, None] >= strength for maximum in maxima)
    return np.ma.masked_array((1 + exceeded) / (1 + len(maxima)), z.mask)


def _strength(statistic: Statistic, z: np.ndarray, what: str) -> np.ma.MaskedArray:
    z = as_maps(what, z)
    return np.ma.masked_where(z.mask, np.abs(as_maps(f"the statistic of {what}", statistic(z))))


def _planes(z: np.ma.MaskedArray) -> np.ndarray:
    """Maps [..., H, W, C] as planes [..., C, H, W], flattened to [planes, H, W]; 0 where masked."""
    return np.moveaxis(z.filled(0), -1, -3).reshape(-1, *z.shape[-3:-1])


def _maps(planes: np.ndarray, like: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Inverse of `_planes`, with the mask of `like`."""
    *leading, height, width, channels = like.shape
    maps = np.moveaxis(planes.reshape(*leading, channels, height, width), -3, -1)
    return np.ma.masked_array(maps, like.mask)


def _gaussian(length: int, deviation: float) -> np.ndarray:
    """The Gaussian of the distance of any two of so many positions, [length, length], 1 for the same."""
    position = np.arange(length)
    return np.exp(-((position[:, None] - position) ** 2) / (2 * deviation**2))


def _grow(order: np.ndarray, sign: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Adds pixels in the given order [pixels, planes], and joins each to the adjacent clusters of its sign.

    All planes grow at once: pixels are numbered through them, and a step adds one pixel to each plane. Returns the tree
    of all clusters at all heights: for each pixel, the later pixel that next enlarged the cluster it completed (0, a
    pixel of the frame, if none did), and the size of that cluster.
    """
    parent, size = np.zeros(sign.size, np.int64), np.ones(sign.size)
    root, added = np.arange(sign.size), np.full(sign.size, np.nan)
    for pixels in order:
        added[pixels] = sign[pixels]
        for step in (-row, -1, 1, row):
            joined = added[pixels + step] == sign[pixels]
            pixel, member = pixels[joined], pixels[joined] + step
            top = root[member]
            while (root[top] != top).any():
                root[member] = top = root[root[top]]
            root[member] = top
            other = top != pixel
            pixel, top = pixel[other], top[other]
            root[top] = parent[top] = pixel
            size[pixel] += size[top]
    return parent, size


def _checked_fwhm(area: float, deviation: float, alpha: float) -> float:
    check_alpha(alpha)
    check_at_least("area", area, 1)
    _check_deviation(deviation)
    return float(deviation * np.sqrt(8 * np.log(2)))


def _ec_2(t: float) -> float:
    """Density of the expected Euler characteristic in two dimensions, per resel."""
    return float(4 * np.log(2) / (2 * np.pi) ** 1.5 * t * np.exp(-(t**2) / 2))


def _check_deviation(deviation: float) -> None:
    if not 0 < deviation < np.inf:
        raise InputError(f"the smoothing deviation is {deviation}: expected a number of pixels above 0")
