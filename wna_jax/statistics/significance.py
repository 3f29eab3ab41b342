"""Does a map hold anything but noise? Exact z-maps of white noise, thresholds for pixels, and one number a map."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from wna_jax.errors import InputError
from wna_jax.maps import ClassificationImages, mean_images
from wna_jax.moments import Moments
from wna_jax.noise import Noise
from wna_jax.statistics.checks import as_maps, check_alpha, check_at_least


def z_map(maps: ClassificationImages) -> np.ma.MaskedArray:
    """Every pixel in units of its standard error, Z = C / se, masked [K, H, W, C].

    Where the response does not depend on a pixel, Z is N(0, 1): exactly in Gaussian noise, in other noise as the
    count of samples grows. The noise's deviation is known, so nothing is estimated (Ahumada 2002; Murray 2011,
    Journal of Vision 11(5):2). Where errors are estimated, from the overlapping windows of fields, C / se is Student t
    with the degrees of freedom of the maps, and Z the normal number of the same tail (Wallace 1959, to .1%).

    Reading the result: |Z| is the evidence that a pixel matters, not how much it matters; it grows as the square root
    of the number of samples. See `significant_pixels`.

    Common mistakes: dividing a map by the deviation over its own pixels, which hides how much of it is signal; reading
    |Z| > 1.96 as significant in a map of hundreds of pixels; a class with a handful of samples of noise that is not
    Gaussian, whose tails are not those of N(0, 1).
    """
    return _normal(as_maps("the map", maps.images) / maps.standard_error, maps.degrees_of_freedom)


def _normal(t: np.ma.MaskedArray, degrees_of_freedom: np.ndarray | None) -> np.ma.MaskedArray:
    """Student t [K, ...] with that many degrees [K] or [K, ...] -> N(0, 1), also where the tail's p underflows."""
    if degrees_of_freedom is None:
        return t
    df = np.maximum(degrees_of_freedom, 1)
    df = df.reshape(df.shape + (1,) * (t.ndim - df.ndim))
    return np.sign(t) * (8 * df + 1) / (8 * df + 3) * np.ma.sqrt(df * np.log1p(t**2 / df))


def p_values(z: ArrayLike) -> np.ma.MaskedArray:
    """Two-sided p value of every pixel by itself, P(|N(0, 1)| >= |z|), masked as `z` [..., H, W, C] is.

    Common mistakes: thresholding these at .05, which calls one pixel in twenty significant in a map of mere noise.
    """
    z = as_maps("the z-map", z)
    return np.ma.masked_array(2 * special.ndtr(-np.abs(z.filled(0))), z.mask)


def max_statistic_threshold(num_pixels: int, alpha: float = 0.05, num_maps: int = 1) -> float:
    """The |z| that mere noise exceeds anywhere in a map with probability `alpha` only.

    Pixels of a white-noise map are independent, so the two-sided threshold is exact (Sidak):
    P(|Z| > t) = 1 - (1 - alpha / num_maps)^(1 / num_pixels). For pixels that depend on each other (overlapping windows,
    noise that is not white) it is an upper bound (Sidak 1967, JASA 62:626): valid, with somewhat less power.

    Args:
        num_pixels: D = H W C, all values of one map.
        alpha: family-wise error rate, the probability of one false pixel or more.
        num_maps: maps in the family. Class maps of one run depend on each other, so alpha is divided (Bonferroni).

    Reading the result: 3.992 for 28x28x1 pixels, 4.305 for 32x32x3.

    Common mistakes: using it for smoothed maps (see `random_field_threshold`); claiming
    pixels in ten maps with num_maps = 1, which controls the error of each map by itself.

    Raises:
        InputError: a number of pixels or maps below 1, or an alpha that is no significance level.
    """
    check_alpha(alpha)
    check_at_least("num_pixels", num_pixels, 1)
    check_at_least("num_maps", num_maps, 1)
    return float(-special.ndtri(-np.expm1(np.log1p(-alpha / num_maps) / num_pixels) / 2))


def significant_pixels(z: ArrayLike, alpha: float = 0.05, num_maps: int = 1) -> np.ndarray:
    """Which pixels of `z` [..., H, W, C] pass `max_statistic_threshold`: bool, of the same shape, False where masked.

    Reading the result: with probability 1 - alpha no True in a map (in `num_maps` maps together) is false.

    Common mistakes: reading False as "does not matter". A weak pixel needs more samples: it is found with probability
    Phi(|E z| - threshold), and E z grows as the square root of their number.
    """
    z = as_maps("the z-map", z)
    return np.abs(z).filled(0) > max_statistic_threshold(int(np.prod(z.shape[-3:])), alpha, num_maps)


class Contrast(NamedTuple):
    """The difference of two independent sets of maps; masked where either has no map."""

    difference: np.ma.MaskedArray
    """First - second, [K, H, W, C], in units of pixel intensity."""
    standard_error: np.ma.MaskedArray
    """[K, H, W, C], same units."""
    z: np.ma.MaskedArray
    """Their ratio, N(0, 1) where the two maps do not differ."""


def contrast(first: ClassificationImages, second: ClassificationImages) -> Contrast:
    """What differs between two independent sets of maps, such as those of a clean and of a poisoned network.

    Difference C_1 - C_2, standard error sqrt(se_1^2 + se_2^2), z their ratio.

    Reading the result: `significant_pixels(contrast(a, b).z)` are the pixels that differ, family-wise.

    Common mistakes: the same noise seed for both. Their errors are then correlated and mostly cancel: z is N(0, 1) no
    more (narrower where the networks agree). Give each its own seed. And: comparing which pixels pass in one map and
    which in the other; a difference in significance is no significant difference.

    Raises:
        InputError: maps of different shapes.
    """
    if first.images.shape != second.images.shape:
        raise InputError(
            f"a contrast of maps {first.images.shape} and {second.images.shape}: expected the same responses and pixels"
        )
    difference = as_maps("the first map", first.images) - as_maps("the second map", second.images)
    variances = [maps.standard_error**2 for maps in (first, second)]
    total = variances[0] + variances[1]
    slack: Any = 0  # 1 / degrees of freedom of the sum (Welch 1947)
    for maps, variance in zip((first, second), variances, strict=True):
        if maps.degrees_of_freedom is not None:
            slack = (
                slack + (variance / total).filled(0) ** 2 / np.maximum(maps.degrees_of_freedom, 1)[:, None, None, None]
            )
    z = difference / np.ma.sqrt(total)
    return Contrast(
        difference, np.ma.sqrt(total), z if isinstance(slack, int) else _normal(z, 1 / np.maximum(slack, 1e-12))
    )


def signal_contrast(by_signal: Sequence[tuple[Moments, Noise]]) -> Contrast:
    """The classification image of a choice of two between signals in noise, [n00 + n01] - [n10 + n11].

    n_RS is the mean of what was averaged over the N_RS samples with answer R and signal S. Taken signal by signal, so
    that the signal itself drops out; standard error s sqrt(sum of 1 / N_RS) (Ahumada 2002; Murray 2011, Journal of
    Vision 11(5):2, where answers stand the other way round).

    Args:
        by_signal: the moments of both decisions, and the noise, for each signal; each with a noise seed of its own.

    Returns:
        One map [1, H, W, C], masked where an answer was never given to one of the signals.

    Reading the result: positive where brightness speaks for answer 0.

    Common mistakes: one noise seed for both signals, whose errors then depend on each other; leaving out an empty
    n_RS, or taking it for 0: what is left then shows the difference of the signals.

    Raises:
        InputError: responses other than two.
    """
    difference: Any = 0
    variance: Any = 0
    for moments, noise in by_signal:
        if len(moments.count) != 2:
            raise InputError(f"a choice of two has two responses, got moments of {len(moments.count)}")
        means = mean_images(moments)
        difference = difference + means[0] - means[1]
        deviation = np.broadcast_to(noise.deviation, noise.shape)
        variance = variance + deviation**2 * (1 / np.maximum(moments.count, 1)).sum()
    error = np.ma.masked_array(np.sqrt(variance), np.ma.getmaskarray(difference))
    return Contrast(difference[None], error[None], (difference / error)[None])


def info_val(z: ArrayLike, nulls: Iterable[np.ndarray] | None = None) -> np.ma.MaskedArray:
    """Informational value of each map: how far its length is from that of mere noise (Brinkman et al. 2019).

    (||Z|| - median) / (1.4826 MAD), over the H W C values of a map, with the null of `info_val_null` in place of
    10,000 simulated random responders (Behavior Research Methods 51:2059; erratum 52:1800).

    Args:
        z: z-maps [..., H, W, C], not smoothed.
        nulls: null maps of the shape of z to simulate the null from, where pixels depend on each other
            (`null_z_maps` with an overlap); else the closed form is exact.

    Returns:
        One number a map, masked where there is none.

    Reading the result: near N(0, 1) for a map of mere noise, above 1.96 with probability .026. It grows with the number
    of samples, without end.

    Common mistakes: pixels whose errors depend on each other, without nulls that do too; reading it as likeness to the
    target. It is a magnitude: any departure from noise raises it.
    """
    z = as_maps("the z-map", z)
    median: Any
    deviation: Any
    if nulls is None:
        median, deviation = info_val_null(int(np.prod(z.shape[-3:])))
    else:
        lengths = np.sqrt([(np.asarray(null) ** 2).sum(axis=(-3, -2, -1)) for null in nulls])
        median = np.median(lengths, axis=0)
        deviation = 1.4826 * np.median(np.abs(lengths - median), axis=0)
    return (np.ma.sqrt((z**2).sum(axis=(-3, -2, -1))) - median) / deviation


def info_val_null(num_pixels: int) -> tuple[float, float]:
    """Median and 1.4826 MAD of ||Z|| for a map of mere noise, which is chi distributed with `num_pixels` degrees.

    27.988 and .7070 for 784 pixels, 55.420 and .7071 for 3,072.

    Raises:
        InputError: a number of pixels below 1.
    """
    check_at_least("num_pixels", num_pixels, 1)

    def below(length: float) -> float:
        return float(special.gammainc(num_pixels / 2, length**2 / 2))

    median = float(np.sqrt(2 * special.gammaincinv(num_pixels / 2, 0.5)))
    mad = optimize.brentq(lambda d: below(median + d) - below(median - d) - 0.5, 0, median)
    return median, 1.4826 * float(mad)
