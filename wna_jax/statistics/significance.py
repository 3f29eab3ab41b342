"""Tests of whether a map holds anything but noise: z-maps, thresholds for pixels, contrasts, and infoVal."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from wna_jax.correlation.moments import Moments
from wna_jax.correlation.origin import check_independent
from wna_jax.maps import ClassificationImages, mean_images
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError
from wna_jax.statistics.checks import as_maps, check_alpha, check_at_least, in_region


def z_map(maps: ClassificationImages) -> np.ma.MaskedArray:
    """The normal deviate of every pixel, Z = C / se where the standard error is known, masked [K, H, W, C].

    Where the response does not depend on a pixel, Z is N(0, 1): exactly in Gaussian noise, asymptotically in other
    noise. The deviation of the noise is known, so nothing is estimated (Ahumada 2002; Murray 2011, Journal of Vision
    11(5):2). Where standard errors are estimated (overlapping windows of fields), C / se follows Student's t with the
    degrees of freedom of the maps, and Z is the normal deviate of the same tail probability (Wallace 1959, to .1%):
    nearer to 0, the more so for strong pixels and few fields.

    Reading the result: |Z| is the evidence that a pixel matters, not how much it matters; it grows with the square root
    of the number of samples. See `significant_pixels`.
    Common mistakes: drawing it as a map in standard errors, which flattens strong pixels of fields (take
    `maps.in_standard_errors`); dividing a map by the deviation over its own pixels, which hides how much of it is
    signal; reading |Z| > 1.96 as significant in a map of hundreds of pixels; a class with a handful of samples of noise
    that is not Gaussian, whose tails are not those of N(0, 1).
    """
    return _normal(as_maps("the map", maps.images) / maps.standard_error, maps.degrees_of_freedom)


def _normal(t: np.ma.MaskedArray, degrees_of_freedom: np.ndarray | None) -> np.ma.MaskedArray:
    """Student t [K, ...] with degrees of freedom [K] or [K, ...] -> N(0, 1), also where the tail p underflows."""
    if degrees_of_freedom is None:
        return t
    df = np.maximum(degrees_of_freedom, 1)
    df = df.reshape(df.shape + (1,) * (t.ndim - df.ndim))
    values = t.filled(0)
    normal = np.sign(values) * (8 * df + 1) / (8 * df + 3) * np.sqrt(df * np.log1p(values**2 / df))
    return np.ma.masked_array(normal, t.mask)


def p_values(z: ArrayLike, roi: ArrayLike | None = None) -> np.ma.MaskedArray:
    """Uncorrected two-sided p value of every pixel, P(|N(0, 1)| >= |z|), masked as `z` [..., H, W, C] is.

    Pixels outside of a region of interest `roi`, bool [H, W] or [H, W, C], are masked too.

    Common mistakes: thresholding these at .05, which marks one in twenty pixels of a noise-only map.
    """
    z = as_maps("the z-map", z, roi)
    return np.ma.masked_array(2 * special.ndtr(-np.abs(z.filled(0))), z.mask)


def max_statistic_threshold(num_pixels: int, alpha: float = 0.05, num_maps: int = 1) -> float:
    """Two-sided threshold that the maximum |z| of a noise-only map exceeds with probability `alpha`.

    Pixels of a white-noise map are independent, so the threshold is exact (Sidak):
    P(|Z| > t) = 1 - (1 - alpha / num_maps)^(1 / num_pixels). For dependent pixels (overlapping windows, noise that is
    not white) it is an upper bound (Sidak 1967, JASA 62:626): valid, with somewhat less power. A map has H W C pixels;
    alpha is divided by the number of maps in the family (Bonferroni), since class maps of one run depend on each other.

    Reading the result: 3.992 for 28x28x1 pixels, 4.305 for 32x32x3.
    Common mistakes: using it for smoothed maps (see `random_field_threshold`); reporting pixels of ten maps with
    num_maps = 1, which controls the error rate of each map alone.

    Raises:
        InputError: a number of pixels or maps below 1, or an alpha that is not a significance level.
    """
    check_alpha(alpha)
    check_at_least("num_pixels", num_pixels, 1)
    check_at_least("num_maps", num_maps, 1)
    return float(-special.ndtri(-np.expm1(np.log1p(-alpha / num_maps) / num_pixels) / 2))


def significant_pixels(
    z: ArrayLike, alpha: float = 0.05, num_maps: int = 1, roi: ArrayLike | None = None
) -> np.ndarray:
    """Which pixels of `z` [..., H, W, C] exceed `max_statistic_threshold`: bool, same shape, False where masked.

    The threshold of a map is that of its pixels that are not masked, of those in a region of interest `roi`, bool
    [H, W] or [H, W, C], alone.

    Reading the result: with probability 1 - alpha there is no false positive in a map (in `num_maps` maps together).
    Common mistakes: reading False as "does not matter". A weak pixel needs more samples: it is detected with
    probability Phi(|E z| - threshold), and E z grows with the square root of their number. Choosing the region after
    the map is seen.
    """
    z = as_maps("the z-map", z, roi)
    thresholds = _by_size(z, lambda num_pixels: max_statistic_threshold(num_pixels, alpha, num_maps))
    return np.abs(z).filled(0) > thresholds[..., None, None, None]


def _by_size(z: np.ma.MaskedArray, of_size: Callable[[int], Any]) -> np.ndarray:
    """What a function says of the number of pixels of each map [...] that are not masked, or of 1 where all are."""
    sizes, own = np.unique(np.maximum(z.count(axis=(-3, -2, -1)), 1), return_inverse=True)
    return np.array([of_size(int(size)) for size in sizes])[own.reshape(z.shape[:-3])]


class Contrast(NamedTuple):
    """Difference of two independent sets of maps, first - second, [K, H, W, C]; masked where one of them has no map.

    Difference and standard error are in units of pixel intensity; z, their ratio, is N(0, 1) where the expected maps
    are equal. `independent` and `noise` say how the errors of pixels depend on each other, as in both sets of maps.
    """

    difference: np.ma.MaskedArray
    standard_error: np.ma.MaskedArray
    z: np.ma.MaskedArray
    independent: bool = True
    noise: Noise | None = None

    @property
    def in_standard_errors(self) -> np.ma.MaskedArray:
        """The difference divided by its standard error, as `ClassificationImages.in_standard_errors`."""
        return self.difference / self.standard_error

    def __repr__(self) -> str:
        """One line."""
        num, *pixels = self.z.shape
        largest = f"{np.abs(self.z).max():.3g}" if self.z.count() else "unknown"
        return f"<Contrast of {num} maps of {'x'.join(map(str, pixels))} pixels, largest |z| {largest}>"


def contrast(first: ClassificationImages, second: ClassificationImages) -> Contrast:
    """Difference C_1 - C_2 of two independent sets of maps, such as those of a clean and a poisoned network.

    The standard error is sqrt(se_1^2 + se_2^2).

    Reading the result: `significant_pixels(contrast(a, b).z)` are the pixels that differ, family-wise.
    Common mistakes: the same noise samples for both, whose errors are then correlated and mostly cancel, so that z is
    not N(0, 1) (it is narrower where the networks agree): use different seeds. Comparing which pixels are significant
    in one map and in the other: a difference in significance is not a significant difference.

    Raises:
        InputError: maps of different shapes, or that share noise samples.
    """
    check_independent("the maps to contrast", first.origin, second.origin)
    if first.images.shape != second.images.shape:
        shapes = f"maps {first.images.shape} and {second.images.shape} to contrast"
        raise InputError(f"{shapes}: expected the same responses and pixels")
    difference = as_maps("the first map", first.images) - as_maps("the second map", second.images)
    variance = first.standard_error**2 + second.standard_error**2
    slack: Any = 0  # 1 / degrees of freedom of the sum (Welch 1947)
    for maps in (first, second):
        if maps.degrees_of_freedom is not None:
            part = (maps.standard_error**2 / variance).filled(0)
            slack = slack + part**2 / np.maximum(maps.degrees_of_freedom, 1)[:, None, None, None]
    error = np.ma.sqrt(variance)
    degrees_of_freedom = 1 / np.maximum(slack, 1e-12) if np.ndim(slack) else None
    independent = first.independent and second.independent
    noise = first.noise if _in_one_noise(first, second) else None
    return Contrast(difference, error, _normal(difference / error, degrees_of_freedom), independent, noise)


def _in_one_noise(first: ClassificationImages, second: ClassificationImages) -> bool:
    if first.noise is None or second.noise is None:
        return False
    prints = [maps.origin and maps.origin.noise_fingerprint for maps in (first, second)]
    return first.noise is second.noise or (prints[0] == prints[1] is not None)


def signal_contrast(by_signal: Sequence[tuple[Moments, Noise]]) -> Contrast:
    """Classification image of a two-alternative choice between signals in noise, [n00 + n01] - [n10 + n11].

    n_RS is the mean noise of the N_RS samples with answer R and signal S. Signals are averaged separately, so that the
    signal itself cancels. The standard error is s sqrt(sum of 1 / N_RS) (Ahumada 2002; Murray 2011, Journal of Vision
    11(5):2, with the opposite sign). Each signal has moments of the two decisions, and its noise, of a seed of its own.
    The one map [1, H, W, C] is masked where an answer was never given to one of the signals.

    Reading the result: positive where brightness favours answer 0.
    Common mistakes: omitting an empty n_RS or replacing it by 0, which leaves the difference of the signals in the map.

    Raises:
        InputError: the number of responses is not two, or two signals share noise samples.
    """
    check_independent("the moments of the signals", *(moments.origin for moments, _ in by_signal))
    difference: Any = 0
    variance: Any = 0
    for moments, noise in by_signal:
        if len(moments.count) != 2:
            raise InputError(f"moments of {len(moments.count)} responses: expected the two of a two-alternative choice")
        means = mean_images(moments)
        difference = difference + means[0] - means[1]
        deviation = np.broadcast_to(noise.deviation, noise.shape)
        variance = variance + deviation**2 * (1 / np.maximum(moments.count, 1)).sum()
    error = np.ma.masked_array(np.sqrt(variance), np.ma.getmaskarray(difference))
    independent = all(noise.white and moments.field_sums is None for moments, noise in by_signal)
    return Contrast(difference[None], error[None], (difference / error)[None], independent)


def info_val(
    z: ArrayLike, nulls: Iterable[np.ndarray] | None = None, roi: ArrayLike | None = None
) -> np.ma.MaskedArray:
    """Informational value (infoVal) of each map: the deviation of its length from that of noise-only maps.

    (||Z|| - median) / (1.4826 MAD), over the H W C values of a map (those that are not masked, and lie in a region of
    interest `roi`, bool [H, W] or [H, W, C]), with `info_val_null` in place of 10,000 simulated
    random responders (Brinkman et al. 2019, Behavior Research Methods 51:2059; erratum 52:1800). The z-maps must not be
    smoothed; where pixels depend on each other, give nulls of the shape of z (`null_z_maps` with a dependence). Without
    them the closed form for independent pixels is used. With them the spread is (97.5th percentile - median) / 1.96,
    the same for a normal length: lengths of dependent pixels are skewed, in 1/f noise so far that by the MAD .055 of
    noise-only maps would be above 1.96. Masked where there is no map.

    Reading the result: near N(0, 1) for a noise-only map, above 1.96 with probability .026. It grows without limit as
    samples are added.
    Common mistakes: pixels with dependent errors, without nulls of the same dependence; reading it as similarity to the
    target. It is a magnitude: any departure from noise raises it.

    Raises:
        InputError: nulls of another shape.
    """
    z = as_maps("the z-map", z, roi)
    length = np.ma.sqrt((z**2).sum(axis=(-3, -2, -1)))
    if nulls is None:
        median, deviation = np.moveaxis(_by_size(z, info_val_null), -1, 0)
        return (length - median) / deviation
    of_nulls = np.sqrt([(np.ma.filled(null, 0) ** 2).sum(axis=(-3, -2, -1)) for null in in_region(nulls, z)])
    median, high = np.quantile(of_nulls, [0.5, 0.975], axis=0)
    return (length - median) * special.ndtri(0.975) / (high - median)


def info_val_of_responses(
    responses: ArrayLike, products: ArrayLike, *, iterations: int = 10_000, seed: int = 0
) -> float | None:
    """infoVal as it is published: of the map mean_t(w_t x_t), beside those of simulated random responders.

    (||C|| - median) / (1.4826 MAD), with the lengths ||C|| = sqrt(w^T K w) / N of the maps of `iterations` observers
    who answer the same N trials 1 or -1 by a fair coin (Brinkman et al. 2019, Behavior Research Methods 51:2059;
    erratum 52:1800). Lengths need the inner products K of the stimuli alone, not their pixels.

    None where the maps of all random responders are of one length: of a single trial.

    Reading the result: for few effective dimensions (smooth noise) lengths of noise-only maps are skewed, and more of
    them than 1 in 40 are above 1.96. A preference of one answer raises it too. `info_val` allows for both.

    Args:
        responses: w [N], 1 and -1.
        products: K [N, N], the sums over pixels of x_t x_u.
        iterations: how many random responders.
        seed: of their answers.

    Raises:
        InputError: products of another size, or responses of other values.
    """
    w, k = np.asarray(responses, np.float64), np.asarray(products, np.float64)
    if k.shape != 2 * w.shape or not set(np.unique(w).tolist()) <= {-1.0, 1.0}:
        raise InputError(
            f"responses {w.shape} and products {k.shape}: expected 1 and -1 [N], and inner products [N, N]"
        )
    check_at_least("iterations", iterations, 1)
    generator = np.random.default_rng(seed)
    random = 2.0 * generator.integers(0, 2, (iterations, len(w))) - 1
    lengths = np.sqrt(np.maximum(np.einsum("bt,bt->b", random @ k, random), 0)) / len(w)
    median = float(np.median(lengths))
    deviation = 1.4826 * float(np.median(np.abs(lengths - median)))
    if not deviation:
        return None
    return float((np.sqrt(np.maximum(w @ k @ w, 0)) / len(w) - median) / deviation)


def info_val_null(num_pixels: int) -> tuple[float, float]:
    """Median and 1.4826 MAD of ||Z|| for a noise-only map: chi distributed, `num_pixels` degrees of freedom.

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
