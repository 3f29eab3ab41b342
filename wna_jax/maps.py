"""From moments to maps: classification images with their standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg

from wna_jax.correlation.moments import Moments
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError

_ALIKE = 1e-6
"""Relative spread of weights below which they are equal, as far as float32 sums can tell."""


@dataclass(frozen=True)
class ClassificationImages:
    """A map of each of K responses. A response without a map is masked, never zero or NaN; `count` says why.

    `images` and their standard errors are [K, H, W, C], in units of pixel intensity. `count` int64 [K] is the number of
    samples with a weight other than 0, `share` [K] the sum of the weights over the number of samples: for decisions
    N_k / N. `degrees_of_freedom` [K] are those of standard errors that are estimated (windows of fields), None where
    these are known. `independent` are the errors of any two pixels: white noise, and samples that do not overlap. In
    other `noise` they are correlated as its pixels are; it is None where they depend on each other in another way.
    """

    images: np.ma.MaskedArray
    standard_error: np.ma.MaskedArray
    count: np.ndarray
    share: np.ndarray
    degrees_of_freedom: np.ndarray | None = None
    independent: bool = True
    noise: Noise | None = None


def mean_images(moments: Moments) -> np.ma.MaskedArray:
    """The weighted mean of the noise, b_k = sum w_k x / sum w_k, [K, H, W, C]; masked where sum w_k = 0.

    For decisions this is the bias map of arXiv 1912.12106: the mean of the N_k samples called k.
    """
    return moments.sum / _over_pixels(np.ma.masked_equal(moments.weight_sum, 0))


def rms_images(moments: Moments) -> np.ma.MaskedArray:
    """The weighted RMS of the noise, sqrt(sum w_k x^2 / sum w_k), [K, H, W, C]; masked where sum w_k = 0."""
    return np.ma.sqrt(moments.square_sum / _over_pixels(np.ma.masked_equal(moments.weight_sum, 0)))


def classification_images(moments: Moments, noise: Noise) -> ClassificationImages:
    """The centred maps C_k = b_k - xbar with their standard errors.

    b_k is the weighted mean of the noise (`mean_images`), xbar the mean of all samples. For independent pixels of
    deviation s, and a response that does not depend on the pixel, the standard error is
    s sqrt(sum w^2 - (sum w)^2 / N) / sum w; for decisions that is s sqrt(1/N_k - 1/N) (Ahumada 2002; Murray 2011,
    Journal of Vision 11(5):2). For the overlapping windows of fields it is estimated, pixel by pixel, from the spread
    of sum w x between the fields, about the value that b_k and xbar predict from each field's sum w and sum x. A
    response that got no sample, or that gave every sample the same weight (nothing to compare with), is masked.

    Raises:
        InputError: weights that add up to less than 0.
    """
    n, weight_sum = moments.num_samples, moments.weight_sum
    if (weight_sum < 0).any():
        raise InputError(
            f"the weights of response {int(weight_sum.argmin())} sum up to {weight_sum.min():g}: a mean needs weights "
            "that are not negative, use maps.regression_images for graded responses"
        )
    spread = moments.weight_square_sum - weight_sum**2 / n
    flat = (weight_sum == 0) | (spread <= _ALIKE * moments.weight_square_sum)
    weight_k = np.ma.masked_array(weight_sum, flat)
    means = moments.sum / _over_pixels(weight_k)
    centred, share = means - moments.total_sum / n, weight_sum / n
    if moments.field_sums is None:
        error_k = np.ma.sqrt(np.ma.masked_array(spread, flat)) / weight_k
        error = _over_pixels(error_k) * np.broadcast_to(noise.deviation, noise.shape)
        coloured = None if noise.white else noise
        return ClassificationImages(centred, error, moments.count, share, None, noise.white, coloured)
    weighing = (moments.draw_square_sum / weight_k**2).filled(1)
    power, degrees = _variance_between_fields(moments, noise, means.filled(0) - noise.mean, weighing)
    error = np.ma.masked_equal(np.sqrt(power), 0) / _over_pixels(weight_k)
    return ClassificationImages(centred, error, moments.count, share, degrees, independent=False)


def whitened_images(
    moments: Moments, noise: Noise, covariance: np.ndarray, ridge: float = 0.01
) -> ClassificationImages:
    """Maps with the noise's own covariance C removed: W (b_k - xbar), W = (C + ridge s^2 I)^-1.

    In noise of dependent pixels b_k - xbar is C times the template (exactly for a linear response to Gaussian noise;
    Murray 2011, Journal of Vision 11(5):2): smooth noise gives a smooth map of a sharp template. W undoes that. s^2 is
    the mean variance of a pixel. The ridge decides about directions in which the noise hardly varies: those of
    variance v are shrunk by v / (v + ridge s^2), since noise without variance there holds no evidence about them. The
    map is in units of 1 / intensity. Where the response does not depend on the image, its standard error is
    sqrt(diag(W C W)) times that of `classification_images` for a deviation of 1.

    C is [D, D] for the D = H W C values of an image, such as `noise.covariance` gives. A larger ridge gives smoother
    maps of smaller error, nearer to the raw ones; 0 needs a C of full rank, which Gabor-PCA noise does not have.
    `statistics.findings` tests single pixels of them alone, and clusters in the raw maps.

    Raises:
        InputError: a covariance of another size, a ridge that is not 0 or more, moments of overlapping windows, or a
            matrix that cannot be inverted.
    """
    pixels = int(np.prod(noise.shape))
    if covariance.shape != (pixels, pixels):
        raise InputError(f"a covariance of shape {covariance.shape} for noise {noise.shape}: expected {(pixels,) * 2}")
    if not 0 <= ridge < np.inf:
        raise InputError(f"ridge is {ridge}: expected a number of at least 0, such as 0.01")
    if moments.field_sums is not None:
        raise InputError("whitened maps need independent samples: use sampling='independent'")
    raw = classification_images(moments, replace(noise, mean=np.zeros(1), deviation=np.ones(1)))
    try:
        factor = linalg.cho_factor(covariance + ridge * np.trace(covariance) / pixels * np.eye(pixels), lower=True)
        pivots = np.diag(factor[0])
        if not pivots.min() > 1e-6 * pivots.max():
            raise linalg.LinAlgError
    except linalg.LinAlgError:
        problem = f"the noise's covariance with a ridge of {ridge} has no inverse"
        raise InputError(f"{problem}: give a larger ridge, such as 0.01") from None
    flat = raw.images.reshape(len(raw.images), pixels)
    whitened = np.ma.masked_array(linalg.cho_solve(factor, flat.filled(0).T).T, flat.mask).reshape(raw.images.shape)
    root = linalg.cho_solve(factor, covariance)  # W C, so that the variances are the diagonal of W C W
    variance = np.einsum("ij,ji->i", root, linalg.cho_solve(factor, np.eye(pixels)))
    spread = np.sqrt(np.maximum(variance, 0)).reshape(noise.shape)
    error = raw.standard_error * spread
    return replace(raw, images=whitened, standard_error=error, independent=False, noise=None)


def regression_images(moments: Moments, noise: Noise) -> ClassificationImages:
    """The slope of a graded response on each pixel, cov(w, x) / s^2, in units of the response per unit of intensity.

    For a unit's activation or a logit, which may be negative: nothing is divided by the sum of the weights. Its z-map
    is that of `classification_images`. In Gaussian noise it estimates the mean input gradient (Stein's identity). Where
    the response does not depend on the pixel, the standard error is sd(w) / (s sqrt(N)).
    """
    n = moments.num_samples
    spread = np.maximum(moments.weight_square_sum - moments.weight_sum**2 / n, 0)
    flat = spread <= _ALIKE * moments.weight_square_sum
    covariance = moments.sum - _over_pixels(moments.weight_sum / n) * moments.total_sum
    still = np.broadcast_to(noise.deviation == 0, noise.shape)  # no evidence about pixels that do not vary
    deviation = np.where(still, 1, np.broadcast_to(noise.deviation, noise.shape))
    constant = _over_pixels(flat) | still
    error, degrees, independent = _over_pixels(np.sqrt(spread)) * deviation, None, noise.white
    coloured = None if noise.white or moments.field_sums else noise
    if moments.field_sums is not None:
        grand_mean = np.broadcast_to(moments.total_sum / n - noise.mean, moments.sum.shape)
        power, degrees = _variance_between_fields(moments, noise, grand_mean, np.zeros(len(moments.sum)))
        error, constant, independent = np.sqrt(power), constant | (power == 0), False
    images, error = (np.ma.masked_array(value / n / deviation**2, constant) for value in (covariance, error))
    return ClassificationImages(images, error, moments.count, moments.weight_sum / n, degrees, independent, coloured)


def gradient_images(moments: Moments) -> ClassificationImages:
    """The mean input gradient of each response, from moments of a `responses.gradient_of`.

    In units of the response per unit of intensity, like `regression_images`, with the standard error of the mean of
    each pixel, sd(gradient) / sqrt(N). The pixels of one gradient depend on each other in a way that is not known:
    `statistics.findings` tests single pixels alone.
    """
    n = moments.num_samples
    mean = np.ma.masked_array(moments.sum / n)
    error = np.ma.sqrt(np.maximum(moments.square_sum / n - mean**2, 0) / n)
    return ClassificationImages(mean, error, moments.count, moments.weight_sum / n, independent=False)


def variants(
    moments: Moments, noise: Noise, covariance: np.ndarray | None = None, ridges: Sequence[float] = (0.01, 0.1, 1.0)
) -> dict[str, np.ma.MaskedArray]:
    """The kinds of map that the moments of one response give, each [K, H, W, C], to be compared on data.

    By name: "mean", "centred" (minus the mean of all samples), "RMS", "z-scored" (centred, in standard errors), and,
    where the covariance of the noise is given, "whitened, ridge R".
    """
    centred = classification_images(moments, noise)
    found = {"mean": mean_images(moments), "centred": centred.images, "RMS": rms_images(moments)}
    found["z-scored"] = centred.images / centred.standard_error
    if covariance is not None:
        for ridge in ridges:
            found[f"whitened, ridge {ridge:g}"] = whitened_images(moments, noise, covariance, ridge).images
    return found


def three_levels(images_khwc: np.ma.MaskedArray, low: float = 0.4, high: float = 0.8) -> np.ma.MaskedArray:
    """Maps stretched to [0, 1] (`min_max`) in three levels: 0 below `low`, 1 from `high` on, 1/2 between.

    The thresholds are those of arXiv 1912.12106. To look at the strongest parts of a map, not for statistics.
    """
    return np.ma.where(images_khwc < low, 0.0, np.ma.where(images_khwc >= high, 1.0, 0.5))


def share_standard_error(moments: Moments) -> np.ma.MaskedArray:
    """Standard error of the share sum w / N of each response, [K], from the spread between independent draws.

    With F draws of n_f samples, S_f the sum of the weights in draw f and p = sum w / N, it is
    sqrt(sum (S_f - p n_f)^2 F / (F - 1)) / N. For decisions on independent samples that is the binomial
    sqrt(p (1 - p) / N); for the windows of fields it allows for their dependence. Masked if there is only one draw.
    """
    draws, n, sums = moments.num_draws, moments.num_samples, moments.field_sums
    share = moments.weight_sum / n
    products, sizes = (moments.weight_sum, n) if sums is None else (sums.sn, sums.nn)
    power = np.maximum(moments.draw_square_sum - 2 * share * products + share**2 * sizes, 0)
    error = np.sqrt(power * draws / max(draws - 1, 1)) / n
    return np.ma.masked_array(error, np.full(error.shape, draws < 2))


def min_max(images_khwc: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Each map as an image: stretched to [0, 1] by its own minimum and maximum; a constant map is masked."""
    low, high = (_over_pixels(extreme(axis=(1, 2, 3))) for extreme in (images_khwc.min, images_khwc.max))
    return (images_khwc - low) / np.ma.masked_equal(high - low, 0)


def named(prefix: str, images_khwc: np.ma.MaskedArray) -> dict[str, np.ndarray]:
    """The maps by the names that they have in a file: {"decision_map_3": ...}.

    A class without a map has no key; rows of one array would invite reading row 3 as class 3.
    """
    return {f"{prefix}_{k}": image.filled() for k, image in enumerate(images_khwc) if image.count()}


def _variance_between_fields(
    moments: Moments, noise: Noise, mean_khwc: np.ndarray, h_k: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of sum (w (x - mean) - share x) over all samples, from the spread between fields.

    With R_f that sum in field f it is (sum R_f^2 - (sum R_f)^2 / F) / (1 - h), with n (1 - h) degrees of freedom.
    h is what estimating the mean costs: 1 / F, or sum S_f^2 / (sum S_f)^2 where the mean weights fields by S_f = sum w.
    n is the effective number of fields, (sum q_f)^2 / sum q_f^2 with q_f the sum of (w - share)^2 in field f
    (Satterthwaite 1946): all fields for a common class, about N_k for a rare one, and for its complement. The variance
    [K, H, W, C] is 0 where it is unknown.
    """
    sums, fields, n = moments.field_sums, moments.num_draws, moments.num_samples
    assert sums is not None
    share_k = moments.weight_sum / n
    share = _over_pixels(share_k)
    squares = (
        sums.aa
        + mean_khwc**2 * _over_pixels(moments.draw_square_sum)
        + share**2 * sums.tt
        - 2 * mean_khwc * sums.a_s
        - 2 * share * sums.at
        + 2 * mean_khwc * share * sums.st
    )
    weight = _over_pixels(moments.weight_sum)
    total = moments.sum - (noise.mean + mean_khwc) * weight - share * (moments.total_sum - noise.mean * n)
    q = moments.weight_square_sum - moments.weight_sum * share_k
    q_squared = (
        sums.qq
        - 4 * share_k * sums.qs
        + 4 * share_k**2 * moments.draw_square_sum
        + 2 * share_k**2 * sums.qn
        - 4 * share_k**3 * sums.sn
        + share_k**4 * sums.nn
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where((q > 0) & (q_squared > 0), np.minimum(q**2 / q_squared, fields), 0)
    left = 1 - np.maximum(h_k, 1 / fields)
    known = (effective >= 2) & (left > 0)
    power = np.maximum(squares - total**2 / fields, 0) * _over_pixels(known / np.where(known, left, 1))
    return power, effective * left


def _over_pixels(value_k: Any) -> Any:
    """[K] -> [K, 1, 1, 1], masked or not."""
    return value_k[:, None, None, None]
