"""Reliability of maps (how close a map is to the map of infinitely many samples), and intervals of averages.

A map of N samples is the infinite-sample map plus noise of power proportional to 1/N. Its reliability (the fraction of
its power that is signal) is therefore 1 / (1 + N0 / N), and its expected correlation with the infinite-sample map is
the square root of that. N0, the number of samples at which half of the power is signal, depends on response and noise.
Maps are compared in the pixels that are masked in neither, and in a region of interest `roi`, bool [H, W] or [H, W, C].
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from wna_jax.correlation.moments import Moments
from wna_jax.correlation.origin import check_independent
from wna_jax.maps import ClassificationImages, regression_images
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError
from wna_jax.statistics.checks import as_maps, check_confidence, region_of

_FEWEST_BLOCKS = 20


class SplitHalf(NamedTuple):
    """Split-half reliability of maps of N samples, each field for K responses. Only `correlation` can be negative.

    `correlation` r_h is between the maps of the two halves, masked where a half has no map. Of the map of all N samples
    are `reliability`, 1 / (1 + N0 / N), also masked where r_h <= 0, and `expected_correlation` with the infinite-sample
    map, its square root. `n0` is N0, the number of samples (of all classes) at which the reliability is 1/2.
    """

    correlation: np.ma.MaskedArray
    reliability: np.ma.MaskedArray
    expected_correlation: np.ma.MaskedArray
    n0: np.ma.MaskedArray


def split_half(first: Moments, second: Moments, noise: Noise, roi: ArrayLike | None = None) -> SplitHalf:
    """Reliability of maps, from two independent halves of the samples, ideally of one size; masked if one is empty.

    The expected correlation of maps of n_1 and n_2 samples, 1 / sqrt((1 + N0 / n_1) (1 + N0 / n_2)), is solved for N0:
    (sqrt(N^2 + 4 n_1 n_2 (1 / r_h^2 - 1)) - N) / 2. For equal halves the reliability is 2 r_h / (1 + r_h)
    (Spearman-Brown).

    Reading the result: a reliability near 1 means that more samples would not change the map, not that the map
    resembles anything. The standard error of r_h is about (1 - r_h^2) / sqrt(n), of n pixels. Below two of them r_h
    is no evidence of a map, and N0 is only a lower bound. Where r_h <= 0 the samples do not determine N0, which is
    masked: add samples.
    Common mistakes: reporting r_h as the reliability of the map of all samples (it is the reliability of half of them).

    Raises:
        InputError: halves of different responses, noises or pixels, or that share samples.
    """
    if first.origin and second.origin:
        first.origin + second.origin  # halves of one whole, or it says what is wrong
    if first.sum.shape != second.sum.shape:
        raise InputError(f"halves with sums {first.sum.shape} and {second.sum.shape}: expected the same responses")
    sizes = first.num_samples, second.num_samples
    if not all(sizes):
        unknown = np.ma.masked_all(len(first.sum))
        return SplitHalf(unknown, unknown, unknown, unknown)
    a, b = (_covariance_images(half, noise) for half in (first, second))
    correlation = map_correlation(a, b, roi)
    positive = np.ma.masked_less_equal(correlation, 0)
    total = sum(sizes)
    n0 = (np.ma.sqrt(total**2 + 4 * sizes[0] * sizes[1] * np.ma.maximum(1 / positive**2 - 1, 0)) - total) / 2
    reliability = 1 / (1 + n0 / total)
    return SplitHalf(correlation, reliability, np.ma.sqrt(reliability), n0)


def predicted_correlation(num_samples: ArrayLike, n0: ArrayLike) -> np.ma.MaskedArray:
    """Expected correlation of a map of N samples with the infinite-sample map, 1 / sqrt(1 + N0 / N).

    Common mistakes: expecting it of another reference, such as a gradient: there it is multiplied by the correlation of
    the infinite-sample map with that reference.
    """
    return 1 / np.ma.sqrt(1 + np.ma.masked_array(n0) / np.ma.masked_array(num_samples))


def samples_for(correlation: float, n0: ArrayLike) -> np.ma.MaskedArray:
    """Samples needed for a given expected correlation with the infinite-sample map, N = N0 r^2 / (1 - r^2).

    For a target reliability R pass r = sqrt(R).

    Raises:
        InputError: the correlation is not between 0 and 1.
    """
    if not 0 < correlation < 1:
        raise InputError(f"correlation is {correlation}: expected a number above 0 and below 1")
    return np.ma.masked_array(n0) * (correlation**2 / (1 - correlation**2))


class Convergence(NamedTuple):
    """Correlation r(N) of maps with a reference at T sample counts, corrected for the noise in the reference: [T, K].

    `predicted` is `predicted_correlation(N, N0)`, [T, K].
    """

    num_samples: np.ndarray
    correlation: np.ma.MaskedArray
    predicted: np.ma.MaskedArray


def convergence(
    cumulative: Iterable[Moments],
    noise: Noise,
    reference: ClassificationImages | ArrayLike,
    n0: ArrayLike,
    reference_reliability: ArrayLike = 1.0,
    roi: ArrayLike | None = None,
) -> Convergence:
    """Convergence curve r(N) of every response, with the predicted curve.

    The moments are of increasing numbers of samples, ideally log-spaced; from blocks, `itertools.accumulate(blocks)`.
    The reference, maps [K, H, W, C], is made of other samples, or of a gradient. A noisy one lowers every r by the
    square root of its reliability ([K] or one number), which is divided out. For a held-out map of M samples that is
    1 / (1 + N0 / M), for a gradient 1. N0 [K] is that of `split_half`.

    Reading the result: r on the predicted curve means that N0 is right and the map converges to the reference; r below
    it by a constant factor, that it converges to a different map; a bend, that samples are not independent.
    Common mistakes: images of the final map as the reference: r ends at 1 by construction, whatever the map.

    Raises:
        InputError: no moments, maps and reference of different shapes, or reference maps of the same samples.
    """
    moments = list(cumulative)
    images: Any = reference
    if isinstance(reference, ClassificationImages):
        images = reference.images
        for each in moments:
            check_independent("the moments and the reference of a convergence", each.origin, reference.origin)
    if not moments:
        raise InputError("no moments given: expected at least one, each of more samples than the one before")
    correlation = np.ma.stack([map_correlation(_covariance_images(m, noise), images, roi) for m in moments])
    num_samples = np.array([m.num_samples for m in moments])
    predicted = predicted_correlation(num_samples[:, None], n0)
    return Convergence(num_samples, disattenuate(correlation, reference_reliability), predicted)


def map_correlation(a: ArrayLike, b: ArrayLike, roi: ArrayLike | None = None) -> np.ma.MaskedArray:
    """Pearson correlation of each map of `a` with the same map of `b`, [K]; masked where one is masked or constant.

    Of maps that are masked in part, it is that of the pixels that both have.

    Common mistakes: reading a low r of noisy maps as a difference: noise lowers r, see `disattenuate`.

    Raises:
        InputError: maps of different shapes, or of another rank than [K, H, W, C].
    """
    a, b = as_maps("the first maps", a, roi), as_maps("the second maps", b, roi)
    if a.shape != b.shape or a.ndim != 4:
        raise InputError(f"maps {a.shape} and {b.shape}: expected the same shape, [K, H, W, C]")
    shared = ~(np.ma.getmaskarray(a) | np.ma.getmaskarray(b))
    return (_standardised(a, shared) * _standardised(b, shared)).sum(axis=1)


def correlation_matrix(a: ArrayLike, b: ArrayLike, roi: ArrayLike | None = None) -> np.ma.MaskedArray:
    """Pearson correlation of every map of `a` [K, H, W, C] with every map of `b` [K', H, W, C]: [K, K'].

    Of maps that are masked in part, all are compared in the pixels that every map has.

    Reading the result: maps of one run share their noise. Without any signal, the maps of two classes with proportions
    p and q have the correlation -sqrt(p q / ((1 - p) (1 - q))).

    Raises:
        InputError: maps of different pixels.
    """
    a, b = as_maps("the first maps", a, roi), as_maps("the second maps", b, roi)
    if a.shape[1:] != b.shape[1:] or a.ndim != 4:
        raise InputError(f"maps {a.shape} and {b.shape}: expected [K, H, W, C] and the same pixels")
    shared = np.concatenate([region_of(a), region_of(b)]).all(axis=0)
    of_a, of_b = (_standardised(maps, np.broadcast_to(shared, maps.shape)) for maps in (a, b))
    missing = (of_a.count(axis=1) == 0)[:, None] | (of_b.count(axis=1) == 0)
    return np.ma.masked_array(of_a.filled(0) @ of_b.filled(0).T, missing)


def known_noise_reliability(maps: ClassificationImages, roi: ArrayLike | None = None) -> np.ma.MaskedArray:
    """Fraction of each map's power that is signal, from one run, 1 - sum_v Var(c_v) / |c|^2.

    The variance of each pixel is known for white noise, so no second half is needed (Murray, Bennett & Sekuler 2005,
    Journal of Vision 5(5):2); for windows of fields it is estimated. |c|^2 is taken about the mean of the map, as in a
    correlation. Masked where there is no map, or where the map has no more power than its noise.

    Reading the result: as a split-half reliability. For a noise-only map its standard error is sqrt(2 / (H W C)),
    slightly more for windows of fields.
    """
    images = as_maps("the maps", np.ma.masked_array(maps.images, maps.standard_error.mask), roi)
    num_pixels = images.count(axis=(1, 2, 3))
    errors = np.ma.masked_array(maps.standard_error, images.mask)
    noise_power = (errors**2).mean(axis=(1, 2, 3)) * (num_pixels - 1)
    return _above_zero(1 - noise_power / (images.var(axis=(1, 2, 3)) * num_pixels))


def disattenuate(correlation: ArrayLike, reliability_a: ArrayLike, reliability_b: ArrayLike = 1.0) -> np.ma.MaskedArray:
    """Correlation that two maps would have without noise, r / sqrt(reliability_a reliability_b) (Spearman 1904).

    With `known_noise_reliability` of a map and a noiseless template (of reliability 1) this is the corrected
    correlation of Murray, Bennett & Sekuler 2005, Journal of Vision 5(5):2. Masked where a reliability is masked or not
    above 0. Can exceed 1 by chance. Arguments may have any shapes that broadcast.

    Common mistakes: maps of one run, whose noise is correlated; relying on it at reliabilities below about .2.
    """
    reliabilities = (_above_zero(np.ma.masked_array(r, dtype=np.float64)) for r in (reliability_a, reliability_b))
    return np.ma.masked_array(correlation) / np.ma.sqrt(np.ma.multiply(*reliabilities))


class BlockAverage(NamedTuple):
    """Average over blocks with its interval; each field has the shape of one block's value."""

    mean: np.ma.MaskedArray
    standard_error: np.ma.MaskedArray
    low: np.ma.MaskedArray
    high: np.ma.MaskedArray


def batch_means(blocks: ArrayLike, confidence: float = 0.95) -> BlockAverage:
    """Average of a quantity over B blocks of samples, with an error from the spread between blocks (batch means).

    Standard error sd(blocks) / sqrt(B), interval mean ± t_{B-1} standard error. Samples within a block may depend on
    each other, as overlapping windows of one noise field do; blocks must be independent and identically distributed.
    They are [B, ...], maps or proportions: from a list of moments
    `np.ma.stack([classification_images(m, noise).images for m in blocks])` or
    `np.stack([m.weight_sum / m.num_samples for m in blocks])`. Masked where fewer than 20 blocks have a value.

    Reading the result: each interval covers its own value, not all pixels jointly.
    Common mistakes: blocks in which a class has few samples: the average of their maps is noisier than the map of all
    samples; overlap between blocks; `wilson_interval` for overlapping windows.

    Raises:
        InputError: fewer than 20 blocks, NaN or infinite values, or an invalid confidence level.
    """
    check_confidence(confidence)
    values = np.ma.masked_array(blocks, dtype=np.float64)
    given = len(values) if values.ndim else 1
    if given < _FEWEST_BLOCKS:
        raise InputError(f"{given} blocks: expected at least {_FEWEST_BLOCKS}, to estimate their spread")
    if not np.isfinite(values.compressed()).all():
        raise InputError("the blocks contain NaN or infinite values: mask what does not exist")
    present = values.count(axis=0)
    mean = np.ma.masked_where(present < _FEWEST_BLOCKS, values.mean(axis=0))
    standard_error = np.ma.masked_where(present < _FEWEST_BLOCKS, values.std(axis=0, ddof=1)) / np.ma.sqrt(present)
    margin = special.stdtrit(np.maximum(present - 1, 1), (1 + confidence) / 2) * standard_error
    return BlockAverage(mean, standard_error, mean - margin, mean + margin)


class SeedMean(NamedTuple):
    """The values of several seeds, and their mean with its interval."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float


def seed_mean(values: Sequence[float], confidence: float = 0.95) -> SeedMean:
    """Mean ± t_{n-1} sd / sqrt(n) of n values, one per seed, assumed to be normally distributed.

    Common mistakes: comparing two intervals where seeds are shared; the interval of the differences is far narrower.

    Raises:
        InputError: fewer than two values, or an invalid confidence level.
    """
    check_confidence(confidence)
    if len(values) < 2:
        raise InputError(f"{len(values)} values: expected at least 2 seeds, to estimate their spread")
    x = np.asarray(values, np.float64)
    margin = special.stdtrit(len(x) - 1, (1 + confidence) / 2) * x.std(ddof=1) / np.sqrt(len(x))
    return SeedMean(tuple(x.tolist()), float(x.mean()), float(x.mean() - margin), float(x.mean() + margin))


class Interval(NamedTuple):
    """The two ends of an interval."""

    low: np.ndarray
    high: np.ndarray


def wilson_interval(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, such as an accuracy or the proportion of a class (Wilson 1927).

    (p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), p = successes / n. Unlike p ± z sqrt(p (1 - p)
    / n) it is valid near 0 and 1: 0 of 20 gives [0, .161]. Successes and trials n may have any shapes that broadcast.

    Common mistakes: trials that depend on each other, such as overlapping windows (use `batch_means`).

    Raises:
        InputError: no trials, counts outside 0 to n, or an invalid confidence level.
    """
    check_confidence(confidence)
    successes, trials = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    if not ((trials >= 1) & (successes >= 0) & (successes <= trials)).all():
        raise InputError(f"{successes} successes of {trials} trials: expected at least 1 trial, and 0 to n successes")
    z_squared = special.ndtri((1 + confidence) / 2) ** 2
    share = successes / trials
    centre = share + z_squared / (2 * trials)
    margin = np.sqrt(z_squared * share * (1 - share) / trials + (z_squared / (2 * trials)) ** 2)
    scale = 1 + z_squared / trials
    return Interval(np.maximum((centre - margin) / scale, 0), np.minimum((centre + margin) / scale, 1))


def bootstrap_interval(
    values: ArrayLike, confidence: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of n independent values [n, ...] of any distribution (Efron 1979; n >= 20 or so).

    The means of n values drawn from these with replacement have the interval's share between its ends. Paired
    differences of two methods on the same images are such values; the difference of two means is not. For fewer values
    the interval is too narrow: a t interval (`seed_mean`) is wider by t / z sqrt(n / (n - 1)).

    Raises:
        InputError: fewer than two values, or an invalid confidence level.
    """
    check_confidence(confidence)
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        raise InputError(f"{len(x)} values: expected at least 2, to estimate their spread")
    shares = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)), resamples) / len(x)
    means = (shares @ x.reshape(len(x), -1)).reshape(resamples, *x.shape[1:])
    return Interval(*np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0))


class Threshold(NamedTuple):
    """Where a psychometric curve and the two ends of its interval cross a level."""

    at: float
    low: float
    high: float


def threshold(x: Sequence[float], share: np.ndarray, interval: Interval, level: float = 0.5) -> Threshold | None:
    """The strength beyond which a proportion stays across a level: the last crossing, linearly interpolated.

    The strengths `x` increase; a proportion and its interval are given for each. None if the curve, or an end of its
    interval, does not cross the level within the range of `x`.
    """
    at, *ends = (_crossing(np.asarray(x, np.float64), np.asarray(values), level) for values in (share, *interval))
    return None if np.isnan([at, *ends]).any() else Threshold(at, min(ends), max(ends))


def _crossing(x: np.ndarray, share: np.ndarray, level: float) -> float:
    """Where the share last crosses the level, or NaN."""
    above = share >= level
    last = np.flatnonzero(above != above[-1])
    if not len(last):
        return np.nan
    i = last[-1]
    return float(x[i] + (level - share[i]) / (share[i + 1] - share[i]) * (x[i + 1] - x[i]))


def _covariance_images(moments: Moments, noise: Noise) -> np.ma.MaskedArray:
    """Unscaled maps cov(w, x), [K, H, W, C], also of responses that may be negative."""
    return regression_images(moments, noise).images * np.broadcast_to(noise.deviation, noise.shape) ** 2


def _standardised(maps: np.ma.MaskedArray, shared: np.ndarray) -> np.ma.MaskedArray:
    """Maps [K, ...] as rows of mean 0 and length 1 over the shared pixels; a row is masked if these are equal."""
    flat = np.ma.masked_array(maps, maps.mask | ~shared).reshape(len(maps), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    length = np.ma.sqrt((centred**2).sum(axis=1, keepdims=True))
    rounding = 1e-12 * np.abs(flat).max(axis=1, keepdims=True)
    unusable = (length <= rounding).filled(True)
    return np.ma.masked_array(centred, centred.mask | unusable) / length


def _above_zero(reliability: np.ma.MaskedArray) -> np.ma.MaskedArray:
    return np.ma.masked_less_equal(reliability, 0)
