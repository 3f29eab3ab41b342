"""Critical-band masking: by which spatial frequencies a network recognises images.

Images are shown in Gaussian noise of one octave of spatial frequencies at a time (`noise.band`). Where little noise
makes a network err, it relies on that octave. Its sensitivity to a band is 1 / threshold, the threshold being the
deviation of the noise at which accuracy is half-way between chance and that without noise. The channel is a Gaussian of
log frequency that explains the sensitivities to all bands: its centre, and its full width at half height.

Solomon & Pelli 1994 (Nature 369:395) found such a channel of people who read letters; Subramanian, Sizikova, Majaj &
Pelli 2023 (NeurIPS, arXiv 2309.13190) find it to be one octave wide for people who name objects, and 2 to 4 times as
wide for networks.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from wna_jax.correlation import draw_samples
from wna_jax.noise import band
from wna_jax.noise.filtered import frequencies, in_band
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import or_none
from wna_jax.runs.progress import Report, in_parts, silent
from wna_jax.statistics import Interval
from wna_jax.studies import interventions, psychometrics

PERSON_OCTAVES = 1.0
"""The width of a person's channel for letters, gratings and objects (Subramanian et al. 2023)."""
_STEP, _WIDTHS = 1 / 40, np.geomspace(0.1, 10, 157)
"""Octaves between the centres, and all widths, that are tried."""


class Bands(NamedTuple):
    """Bands of frequencies: the shape (H, W, C) of the images, F centres in cycles per image height, their width."""

    shape: tuple[int, int, int]
    centres: tuple[float, ...]
    octaves: float = 1.0

    @classmethod
    def of(cls, shape: tuple[int, int, int], step: float = 0.5, octaves: float = 1.0) -> "Bands":
        """The bands whose centres are `step` octaves apart from H / 2 down, as far as such images have frequencies."""
        finest, lowest = shape[0] / 2, np.unique(frequencies(shape))[1]
        count = 1 + int(max(np.log2(finest / lowest) + octaves / 2, 0) / step)
        centres = [float(finest * 2.0 ** (-step * i)) for i in reversed(range(count))]
        return cls(shape, tuple(centre for centre in centres if in_band(shape, centre, octaves).any()), octaves)

    @property
    def inside(self) -> Bool[np.ndarray, "F H W"]:
        """Which coefficients of an image's FFT are in each band."""
        return np.stack([in_band(self.shape, centre, self.octaves) for centre in self.centres])


class Masking(NamedTuple):
    """Which of n images a network recognised: without noise, and in F bands of noise of S rising deviations."""

    bands: Bands
    deviations: tuple[float, ...]
    chance: float
    clean: Bool[np.ndarray, " n"]
    masked: Bool[np.ndarray, "F S n"]

    @property
    def accuracy(self) -> Float[np.ndarray, "F S"]:
        """The share of images that were recognised in each noise."""
        return self.masked.mean(axis=-1)

    @property
    def criterion(self) -> float:
        """The accuracy half-way between chance and that without noise."""
        return (self.chance + float(self.clean.mean())) / 2


def of_contrast(images: Float32[np.ndarray, "n H W C"], contrast: float) -> Float32[np.ndarray, "n H W C"]:
    """Images in [0, 1] of a contrast, about mid-grey: 1/2 + contrast (x - 1/2)."""
    return (0.5 + contrast * (np.asarray(images, np.float32) - 0.5)).astype(np.float32)


def measure(
    network: Callable[[jax.Array], jax.Array],
    images: Float32[np.ndarray, "n H W C"],
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    bands: Bands,
    deviations: Sequence[float],
    *,
    seed: int = 0,
    report: Report = silent,
) -> Masking:
    """Which images x a network recognises in noise, x + s z, of F bands and S rising deviations s (pixel intensity).

    The unit noise z of an image and a band is the same for all deviations, and for every network asked with this seed,
    so that networks are compared on the same stimuli. Nothing is clipped. Progress is in images shown.

    Raises:
        InputError: deviations that do not rise from above 0, fewer than three of them, or fewer than two images.
    """
    levels = np.asarray(deviations, np.float64)
    if len(levels) < 3 or not levels[0] > 0 or not (np.diff(levels) > 0).all() or not np.isfinite(levels).all():
        given = ", ".join(f"{level:g}" for level in levels)
        raise InputError(f"deviations of the noise are {given}: expected three or more that rise from above 0")
    if len(labels) < 2:
        raise InputError(f"{len(labels)} images: expected at least 2, for the error of an accuracy")
    clean = interventions.right(network, interventions.unchanged, [0.0], images, labels)[0]
    masked = []
    for centre, tell in in_parts(report, bands.centres, "answers"):
        unit = draw_samples(band(bands.shape, centre, bands.octaves, 0.0, 1.0), len(labels), seed=seed)
        masked.append(interventions.right(network, _in_noise, deviations, (images, np.asarray(unit)), labels, tell))
    return Masking(bands, tuple(levels.tolist()), 1 / num_classes, clean, np.stack(masked))


def _in_noise(images_and_noise: tuple[jax.Array, jax.Array], deviation: jax.Array) -> jax.Array:
    return images_and_noise[0] + deviation * images_and_noise[1]


class Estimate(NamedTuple):
    """A number with its 95% interval; NaN where it cannot be told."""

    at: float
    low: float
    high: float


class Channel(NamedTuple):
    """The channel of a network: sensitivities to F bands, and the Gaussian that explains them.

    Sensitivities are 1 / threshold deviation, with 95% intervals. `centre` is in cycles per image height, `bandwidth`
    the full width at half height in octaves, where people have 1.

    Common mistakes: comparing this bandwidth with a published one to the decimal. That of Subramanian et al. 2023 is of
    a Gaussian fitted to the logarithm of sensitivity, above that at which their strongest noise would be the threshold:
    it depends on that noise, and includes the width of the noise bands. By it networks come out wider than here.
    """

    bands: Bands
    sensitivity: np.ma.MaskedArray
    interval: Interval
    peak: float
    centre: Estimate
    bandwidth: Estimate

    def as_json(self) -> dict[str, Any]:
        """The numbers as JSON values, None for what is masked or cannot be told."""
        names = "centre", "bandwidth"
        estimates = {name: dict(zip(Estimate._fields, or_none(getattr(self, name)), strict=True)) for name in names}
        of_bands = {"sensitivity": self.sensitivity, "low": self.interval.low, "high": self.interval.high}
        return {name: or_none(of) for name, of in of_bands.items()} | {"peak": or_none(self.peak)} | estimates

    def gain(self, frequency: Float[np.ndarray, " x"]) -> Float[np.ndarray, " x"]:
        """The fitted channel at some frequencies, in units of sensitivity."""
        return self.peak * _gaussian(np.log2(frequency / self.centre.at), self.bandwidth.at)


def channel(masking: Masking, *, resamples: int = 1_000, seed: int = 0) -> Channel:
    """The channel of a network, by a fit of its sensitivities, with intervals from resampled images.

    Each threshold is that of a cumulative normal of log deviation between the accuracy without noise and chance, fitted
    by maximum likelihood (`psychometrics.fitted_thresholds`); the sensitivity is 0 where the strongest noise leaves the
    accuracy above half-way, and masked where the weakest noise is too strong. For the channel see `fit`. Intervals are
    percentiles over `resamples` sets of images drawn with replacement, for which everything is fitted again (Efron
    1979).
    """
    n, (f, s) = len(masking.clean), masking.masked.shape[:2]
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    counts = np.concatenate([np.ones((1, n), np.int64), counts]).astype(np.float64)  # first the images as they are
    shares = (counts @ masking.masked.reshape(f * s, n).T / n).reshape(-1, f, s)
    clean = np.broadcast_to((counts @ masking.clean / n)[:, None], shares.shape[:2])
    threshold = psychometrics.fitted_thresholds(masking.deviations, shares, n, clean, masking.chance)
    harmless = np.ma.getmaskarray(threshold) & (shares[..., -1] > (clean + masking.chance) / 2)
    sensitivity = np.ma.where(harmless, 0.0, 1 / threshold)
    peak, *of_channel = fit(masking.bands, sensitivity)
    of_sets = sensitivity[1:].filled(np.nan)
    known = ~np.isnan(of_sets).all(axis=0)
    interval = np.full((2, f), np.nan)
    interval[:, known] = np.nanquantile(of_sets[:, known], [0.025, 0.975], axis=0)
    estimates = map(_estimate, of_channel)
    return Channel(masking.bands, sensitivity[0], Interval(*interval), float(peak.data[0]), *estimates)


def fit(bands: Bands, sensitivity: Float[np.ma.MaskedArray, "B F"]) -> tuple[np.ma.MaskedArray, ...]:
    """The channels of B networks: peak sensitivity, centre (cycles per image height), bandwidth (octaves), each [B].

    The channel is g(f) = peak exp(-4 ln 2 (log2(f / centre) / bandwidth)^2). The noise of a band has equal power at all
    its frequencies, and the sensitivity to it is sqrt(mean of g(f)^2 over these), as of an observer who matches a
    template of this gain. So the width of the noise bands is not part of the bandwidth.

    The least squares of the sensitivities are found among centres every 1/40 of an octave, from one octave below the
    lowest band's to one above the highest's, and bandwidths every 3%, from .1 to 10 octaves. Masked bands are left out.
    A channel at an end of these ranges, or of fewer than three bands, is masked: such sensitivities have no peak.
    """
    frequency = frequencies(bands.shape)
    inside = bands.inside
    octave = np.round(np.log2(frequency, where=frequency > 0, out=np.zeros_like(frequency)) * 64) / 64
    values, which = np.unique(octave, return_inverse=True)
    shares = np.stack([np.bincount(which.ravel(), one.ravel(), len(values)) / one.sum() for one in inside])
    peak, centre, width = _gaussians(sensitivity, np.log2(bands.centres), values, shares)
    return peak, 2**centre, width


def _gaussians(
    sensitivity: np.ma.MaskedArray, centres: np.ndarray, octaves: np.ndarray, shares: np.ndarray
) -> tuple[np.ma.MaskedArray, ...]:
    """Peak, centre (log2) and width of Gaussians of least squares, each [B]; shares [F, U] of log2 frequencies [U]."""
    tried = np.arange(centres[0] - 1, centres[-1] + 1 + _STEP / 2, _STEP)
    power = np.stack([_gaussian((octaves - at)[None], _WIDTHS[:, None]) ** 2 @ shares.T for at in tried])
    gains = np.sqrt(power).reshape(-1, len(centres))  # [M, F] of all models
    found = []
    for values in np.ma.masked_array(sensitivity).reshape(-1, 1, len(centres)):
        known = np.ma.getmaskarray(values)[0] == 0
        explained, size = gains[:, known] @ values.data[0, known], (gains[:, known] ** 2).sum(axis=1)
        best = int(np.argmax(explained * np.abs(explained) / np.maximum(size, 1e-300)))
        i, j = divmod(best, len(_WIDTHS))
        at_end = i in (0, len(tried) - 1) or j in (0, len(_WIDTHS) - 1) or known.sum() < 3
        found.append((explained[best] / max(size[best], 1e-300), tried[i], _WIDTHS[j], at_end))
    peak, centre, width, at_end = np.array(found).T
    return tuple(np.ma.masked_array(of, at_end == 1) for of in (peak, centre, width))


def _gaussian(octaves: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * (octaves / width) ** 2)


def _estimate(values: np.ma.MaskedArray) -> Estimate:
    """The first of B values, with the interval of the others."""
    if np.ma.getmaskarray(values)[0]:
        return Estimate(np.nan, np.nan, np.nan)
    low, high = np.quantile(values.data[1:], [0.025, 0.975])
    return Estimate(float(values.data[0]), float(low), float(high))
