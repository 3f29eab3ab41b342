"""From moments to maps: classification images with their standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from wna_jax.correlation.moments import Moments, over_pixels
from wna_jax.correlation.origin import Origin
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError

_SURE = 6
"""Standard errors of a variance by which samples are not of a noise."""
_ALIKE = 1e-12
"""Relative variance of weights below which they are equal, as far as the float32 numbers of a network can tell."""


@dataclass(frozen=True)
class ClassificationImages:
    """A map of each of K responses. A response without a map is masked, never zero or NaN; `count` says why.

    `images` and their standard errors are [K, H, W, C], in units of pixel intensity. `count` int64 [K] is the number of
    samples with a weight other than 0, `share` [K] the sum of the weights over the number of samples: for decisions
    N_k / N. `degrees_of_freedom` [K] are those of standard errors that are estimated (windows of fields), None where
    these are known. `independent` are the errors of any two pixels: white noise, and samples that do not overlap. In
    other `noise` they are correlated as its pixels are; it is None where they depend on each other in another way.
    `origin` is that of the moments.
    """

    images: np.ma.MaskedArray
    standard_error: np.ma.MaskedArray
    count: np.ndarray
    share: np.ndarray
    degrees_of_freedom: np.ndarray | None = None
    independent: bool = True
    noise: Noise | None = None
    origin: Origin | None = None

    def __repr__(self) -> str:
        """One line; the maps are its attributes."""
        num, *pixels = self.images.shape
        there = int((self.images.count(axis=(1, 2, 3)) > 0).sum())
        of = f"; {self.origin}" if self.origin else ""
        counts = f"{self.count.min():,} to {self.count.max():,} samples each" if num else "no samples"
        text = f"<ClassificationImages of {num} responses ({there} have a map), {'x'.join(map(str, pixels))} pixels"
        return f"{text}, {counts}{of}>"

    @property
    def in_standard_errors(self) -> np.ma.MaskedArray:
        """The maps divided by their standard errors, [K, H, W, C]: what figures show.

        For tests take `statistics.z_map`, which knows how many degrees of freedom an estimated error has.
        """
        return self.images / self.standard_error

    def of_responses(self, rows: np.ndarray) -> "ClassificationImages":
        """The maps of some of the responses."""
        degrees = self.degrees_of_freedom
        return replace(
            self,
            images=self.images[rows],
            standard_error=self.standard_error[rows],
            count=self.count[rows],
            share=self.share[rows],
            degrees_of_freedom=degrees if degrees is None else degrees[rows],
        )


def mean_images(moments: Moments) -> np.ma.MaskedArray:
    """The weighted mean of the noise, b_k = sum w_k x / sum w_k, [K, H, W, C]; masked where sum w_k = 0.

    For decisions this is the bias map of arXiv 1912.12106: the mean of the N_k samples called k.
    """
    return moments.sum / over_pixels(np.ma.masked_equal(moments.weight_sum, 0))


def rms_images(moments: Moments) -> np.ma.MaskedArray:
    """The weighted RMS of the noise, sqrt(sum w_k x^2 / sum w_k), [K, H, W, C]; masked where sum w_k = 0."""
    return np.ma.sqrt(moments.square_sum / over_pixels(np.ma.masked_equal(moments.weight_sum, 0)))


def classification_images(moments: Moments, noise: Noise) -> ClassificationImages:
    """The centred maps C_k = b_k - xbar with their standard errors.

    b_k is the weighted mean of the noise (`mean_images`), xbar the mean of all samples. For independent pixels of
    deviation s, and a response that does not depend on the pixel, the standard error is
    s sqrt(sum w^2 - (sum w)^2 / N) / sum w; for decisions that is s sqrt(1/N_k - 1/N) (Ahumada 2002; Murray 2011,
    Journal of Vision 11(5):2). For the overlapping windows of fields it is estimated, pixel by pixel, from the spread
    of sum (w - p) (x - xbar) between the fields, p the mean weight, about what the map itself adds to it. The weights
    1 - w have the map -C_k sum w / sum (1 - w), and the same number of standard errors. A response that got no sample,
    or that gave every sample the same weight (nothing to compare with), is masked.

    Raises:
        InputError: weights that add up to less than 0, or samples of another noise.
    """
    check_deviation(moments, noise)
    return _classification_images(moments, noise)


def _classification_images(moments: Moments, noise: Noise) -> ClassificationImages:
    _check_noise(moments, noise)
    n, weight_sum = moments.num_samples, moments.weight_sum
    if (weight_sum < 0).any():
        raise InputError(
            f"the weights of response {int(weight_sum.argmin())} sum up to {weight_sum.min():g}: a mean needs weights "
            "that are not negative, use maps.regression_images for graded responses"
        )
    centred = moments.about(weight_sum / n)
    spread = centred.weight_square_sum
    flat = (weight_sum == 0) | (spread <= _ALIKE * moments.weight_square_sum)
    weight = over_pixels(np.ma.masked_array(weight_sum, flat))
    images, share = centred.sum / weight, weight_sum / n
    if moments.field_sums is None:
        error = over_pixels(np.ma.sqrt(np.ma.masked_array(spread, flat))) / weight
        error = error * np.broadcast_to(noise.deviation, noise.shape)
        coloured = None if noise.white else noise
        return ClassificationImages(
            images, error, moments.count, share, None, noise.white, coloured, origin=moments.origin
        )
    power, degrees = _variance_between_fields(centred, noise)
    error = np.ma.masked_equal(np.sqrt(power), 0) / weight
    return ClassificationImages(images, error, moments.count, share, degrees, False, origin=moments.origin)


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
    raw = _classification_images(moments, replace(noise, mean=np.zeros(1), deviation=np.ones(1)))
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
    _check_noise(moments, noise)
    n = moments.num_samples
    centred = moments.about(moments.weight_sum / n)
    spread = np.maximum(centred.weight_square_sum, 0)
    flat = spread <= _ALIKE * moments.weight_square_sum
    still = np.broadcast_to(noise.deviation == 0, noise.shape)  # no evidence about pixels that do not vary
    deviation = np.where(still, 1, np.broadcast_to(noise.deviation, noise.shape))
    constant = over_pixels(flat) | still
    error, degrees, independent = over_pixels(np.sqrt(spread)) * deviation, None, noise.white
    coloured = None if noise.white or moments.field_sums else noise
    if moments.field_sums is not None:
        power, degrees = _variance_between_fields(centred, noise)
        error, constant, independent = np.sqrt(power), constant | (power == 0), False
    images, error = (np.ma.masked_array(value / n / deviation**2, constant) for value in (centred.sum, error))
    share = moments.weight_sum / n
    return ClassificationImages(
        images, error, moments.count, share, degrees, independent, coloured, origin=moments.origin
    )


def choice_images(moments: Moments, noise: Noise) -> ClassificationImages:
    """Classification images of choices of two: the slope of the noise on the response.

    That is sum (w - p) x / sum (w - p)^2, p the mean response. For the responses 1 (yes) and 0 (no) it is the mean
    noise of yes minus that of no. For 1 (the first) and -1 (the second), with x the first stimulus minus the second, it
    is the mean of the chosen stimuli minus that of the others, both intervals counted alike. With one noise x that is
    added in one stimulus and subtracted in the other, it is the mean of w x (Dotsch & Todorov 2012, Social
    Psychological and Personality Science 3:562), corrected for a preference of one answer. Where the response does not
    depend on the pixel, the standard error is s / sqrt(sum (w - p)^2): for yes and no s sqrt(1/N_yes + 1/N_no) (Ahumada
    2002, Journal of Vision 2(1):8). In units of pixel intensity, with the z-map of `classification_images`. Masked
    where all answers are equal.

    Raises:
        InputError: the noise is not that of the moments.
    """
    maps = regression_images(moments, noise)  # the slope of the response on the noise, cov / s^2
    spread = moments.about(moments.weight_sum / moments.num_samples).weight_square_sum / moments.num_samples
    factor = np.broadcast_to(noise.deviation, noise.shape) ** 2 / over_pixels(np.where(spread > 0, spread, 1))
    return replace(maps, images=maps.images * factor, standard_error=maps.standard_error * factor)


def gradient_images(moments: Moments) -> ClassificationImages:
    """The mean input gradient of each response, from moments of a `responses.gradient_of`.

    In units of the response per unit of intensity, like `regression_images`, with the standard error of the mean of
    each pixel, sd(gradient) / sqrt(N). The pixels of one gradient depend on each other in a way that is not known:
    `statistics.findings` tests single pixels alone.
    """
    n = moments.num_samples
    mean = np.ma.masked_array(moments.sum / n)
    error = np.ma.sqrt(np.maximum(moments.square_sum / n - mean**2, 0) / n)
    share = moments.weight_sum / n
    return ClassificationImages(mean, error, moments.count, share, independent=False, origin=moments.origin)


def variants(
    moments: Moments, noise: Noise, covariance: np.ndarray | None = None, ridges: Sequence[float] = (0.01, 0.1, 1.0)
) -> dict[str, np.ma.MaskedArray]:
    """The kinds of map that the moments of one response give, each [K, H, W, C], to be compared on data.

    By name: "mean", "centred" (minus the mean of all samples), "RMS", "z-scored" (centred, in standard errors), and,
    where the covariance of the noise is given, "whitened, ridge R".
    """
    centred = classification_images(moments, noise)
    found = {"mean": mean_images(moments), "centred": centred.images, "RMS": rms_images(moments)}
    found["z-scored"] = centred.in_standard_errors
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
    draws, n = moments.num_draws, moments.num_samples
    power = np.maximum(moments.about(moments.weight_sum / n).draw_square_sum, 0)
    error = np.sqrt(power * draws / max(draws - 1, 1)) / n
    return np.ma.masked_array(error, np.full(error.shape, draws < 2))


def min_max(images_khwc: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Each map as an image: stretched to [0, 1] by its own minimum and maximum; a constant map is masked."""
    low, high = (over_pixels(extreme(axis=(1, 2, 3))) for extreme in (images_khwc.min, images_khwc.max))
    return (images_khwc - low) / np.ma.masked_equal(high - low, 0)


def named(prefix: str, images_khwc: np.ma.MaskedArray) -> dict[str, np.ndarray]:
    """The maps by the names that they have in a file: {"decision_map_3": ...}.

    A class without a map has no key; rows of one array would invite reading row 3 as class 3.
    """
    return {f"{prefix}_{k}": image.filled() for k, image in enumerate(images_khwc) if image.count()}


def _check_noise(moments: Moments, noise: Noise) -> None:
    """Raises an InputError if the samples were of another noise, as far as names and shapes tell."""
    shown = moments.origin.noise if moments.origin else noise.name
    if shown != noise.name or moments.sum.shape[1:] != noise.shape:
        images = "x".join(map(str, moments.sum.shape[1:]))
        raise InputError(
            f"moments of {shown} noise, {images} pixels, with {noise.name} noise of shape {noise.shape}: give "
            "the noise of the samples"
        )


def check_deviation(moments: Moments, noise: Noise) -> None:
    """Raises an InputError if the samples vary much more, or less, than the noise does."""
    n = moments.num_samples
    declared = float(np.mean(np.broadcast_to(noise.deviation, noise.shape) ** 2))
    seen = float(np.mean(moments.total_square_sum / max(n, 1) - (moments.total_sum / max(n, 1)) ** 2))
    slack = 1.1 + _SURE * np.sqrt(2 / max(moments.num_draws, 1))
    if n > 1 and min(seen, declared) > 0 and not 1 / slack < seen / declared < slack:
        raise InputError(
            f"pixels of the samples have a deviation of {np.sqrt(seen):.3g}, those of the noise given one of "
            f"{np.sqrt(declared):.3g}: give the noise of the samples; of two stimuli in a trial it is that of their "
            "difference, observers.noise_of"
        )


def _variance_between_fields(centred: Moments, noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Variance [K, H, W, C] of sum (w - p) x over all windows, from the spread between fields, and its degrees [K].

    With R_f = sum (w - p) (x - xbar) and q_f = sum (w - p)^2 over the windows of field f, p and xbar the means over all
    samples, it is sum (R_f - B q_f)^2 / (1 - 1/n): B = sum R_f / sum q_f is the slope of the pixel on the weight, so
    that B q_f is what a map adds to R_f and the rest is noise (the variance of a slope for clustered samples, Liang &
    Zeger 1986, Biometrika 73:13). n = (sum q_f)^2 / sum q_f^2 is the effective number of fields (Satterthwaite 1946):
    all of them for a common class, about N_k for a rare one; n - 1 are the degrees of freedom. All of this is the same
    for the weights w and 1 - w. The variance is 0 where n < 2, and it is unknown.

    Args:
        centred: moments about the mean weights, `Moments.about`, with the sums of fields.
        noise: what was shown.
    """
    sums = centred.field_sums
    assert sums is not None
    mean = centred.total_sum / centred.num_samples - noise.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        fields = np.where(sums.qq > 0, centred.weight_square_sum**2 / sums.qq, 0)
        slope = centred.sum / over_pixels(centred.weight_square_sum)
    known = fields >= 2
    r_squared = sums.aa - 2 * mean * sums.a_s + mean**2 * over_pixels(centred.draw_square_sum)
    r_q = sums.aq - mean * over_pixels(sums.qs)
    squares = r_squared - 2 * slope * r_q + slope**2 * over_pixels(sums.qq)
    left = np.where(known, 1 - 1 / np.maximum(fields, 1), 1)
    power = np.where(over_pixels(known), np.maximum(squares, 0) / over_pixels(left), 0)
    return power, np.maximum(fields - 1, 0)
