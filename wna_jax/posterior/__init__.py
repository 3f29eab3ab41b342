"""Maps from fewer samples: the posterior mean of a map under a prior that it is smooth and local, with its own errors.

White noise makes a map y = k + e whose errors e are known, so the map alone says how smooth it is: the prior's length,
place and strength are those that make the map most probable (automatic smoothness determination, Sahani & Linden 2003,
Advances in Neural Information Processing Systems 15; locality, Park & Pillow 2011, PLoS Computational Biology
7:e1002219). The samples are not needed again.

The prior lets go: a map that is not smooth is not smoothed. Three priors are asked for their evidence: pixels that
share nothing, under which the posterior mean is the map itself, scaled; smooth maps; and maps of one spatial frequency,
such as a unit's grating. A prior with more numbers must be 20 times as probable as the one before it; where the other
maps of a run say that maps are smooth, a map must speak against it by as much.

Tests, reliability and counts stay those of the plain map: posterior means of neighbours are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage, special
from threadpoolctl import threadpool_limits

from wna_jax.correlation.fields import Overlap
from wna_jax.maps import ClassificationImages
from wna_jax.posterior.evidence import AXIS, FREQUENCIES, Fit, Problem, channel_root, fit, posterior_of
from wna_jax.posterior.structure import structure_p_value
from wna_jax.runs.errors import InputError

__all__ = ["Estimate", "PosteriorMaps", "Prior", "posterior_maps", "why_none"]

Kind = Literal["independent pixels", "smooth", "one frequency"]
_ODDS = np.log(20)
"""Log odds that a prior with more numbers must have."""
_LOWEST = 0.06
"""Cycles per pixel below which a peak of the spectrum is no sign of a grating."""
_OUTSTANDING = 6
"""Deviations of a spectrum of mere noise above its mean that are hardly ever reached."""
_SURE = 1.96


class Estimate(NamedTuple):
    """A number of a prior with its 95% interval; each an array."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Prior:
    """The prior that a map chose.

    `log_odds` are those of a map with structure against independent pixels. `strength` [C] is the deviation of the map
    in the middle of its window, in standard errors, `detail` that of what no neighbour shares. `length`, `frequency`,
    `centre` and `width` are of rows and columns, [2], in pixels and cycles per pixel: pixels at a distance d have the
    correlation (1 + sqrt(3) d / length) exp(-sqrt(3) d / length); variance falls off as a Gaussian of standard
    deviation `width` about `centre`. `channel_correlation` is [C, C]. For independent pixels only `strength` is known.
    """

    kind: Kind
    log_odds: float
    strength: Estimate
    detail: Estimate | None = None
    length: Estimate | None = None
    frequency: Estimate | None = None
    centre: Estimate | None = None
    width: Estimate | None = None
    channel_correlation: np.ndarray | None = None


@dataclass(frozen=True)
class PosteriorMaps:
    """Posterior maps of K responses, in the units of the maps; masked where there is no map.

    `images` are posterior means and `standard_deviation` posterior deviations, both [K, H, W, C]. `priors` are K, None
    where there is no map. `expected_correlation` [K] is that of the posterior mean with the map of infinitely many
    samples, `plain_correlation` that of the plain map; `gain` [K] is how many times as many samples a plain map would
    need to be as near. `p_value` [K] is that of a map of mere noise with as much structure: a test of the plain map.
    """

    images: np.ma.MaskedArray
    standard_deviation: np.ma.MaskedArray
    priors: tuple[Prior | None, ...]
    expected_correlation: np.ma.MaskedArray
    plain_correlation: np.ma.MaskedArray
    gain: np.ma.MaskedArray
    p_value: np.ma.MaskedArray

    def __repr__(self) -> str:
        """One line; the maps are its attributes."""
        kinds = [prior.kind for prior in self.priors if prior]
        return f"<PosteriorMaps of {len(self.priors)} responses: {', '.join(dict.fromkeys(kinds)) or 'no map'}>"


def why_none(maps: ClassificationImages, overlap: Overlap | None = None) -> str | None:
    """Why maps have no posterior under these priors, or None if they have one."""
    if maps.noise is not None or not (maps.independent or maps.degrees_of_freedom is not None):
        return "errors of their pixels depend on each other as the noise does: posterior maps need white noise"
    if maps.degrees_of_freedom is not None and overlap is None:
        return "they are of overlapping windows: give overlap=, as correlation.fields.overlap estimates it"
    if (maps.standard_error.filled(1) <= 0).any():
        return "some pixels of the noise do not vary: posterior maps need noise in each pixel"
    partly = maps.standard_error.count(axis=(1, 2, 3)) % maps.standard_error[0].size
    return "some pixels have no error: posterior maps need all" if partly.any() else None


def posterior_maps(maps: ClassificationImages, overlap: Overlap | None = None) -> PosteriorMaps:
    """Posterior mean and deviation of each map under the prior that makes it most probable.

    The prior is a normal distribution of maps in standard errors, k ~ N(0, K_h (x) K_w (x) S + v I) for rows, columns
    and channels (`posterior.evidence`). Its numbers are those of the largest posterior density under weak hyperpriors;
    mean and deviation are averaged over the uncertainty that is left. For overlapping windows of fields errors are
    correlated a stride apart; that is taken in as a product of the correlations along rows and columns, and each
    channel has one standard error, the root mean square over its pixels.

    With m the posterior mean less its mean over pixels and V the posterior covariance, E |k|^2 = |m|^2 + tr V, and the
    expected correlation with k is sqrt(|m|^2 / (|m|^2 + tr V)); that of the plain map is sqrt(S / (S + D)) for
    S = E |k|^2 and a total variance D of its errors.

    Common mistakes: testing posterior maps pixel by pixel (test the plain map); reading the deviation as a standard
    error of the estimate over repeated runs (it is what is not known of the map, given these samples).

    Args:
        maps: of white noise, as `maps.classification_images` and `maps.regression_images` make them.
        overlap: for windows of fields, of the same responses.

    Raises:
        InputError: maps of noise whose pixels depend on each other, or of windows without their overlap.
    """
    with threadpool_limits(1):  # matrices are small: more threads of BLAS take three times as long
        return _posterior_maps(maps, overlap)


def _posterior_maps(maps: ClassificationImages, overlap: Overlap | None) -> PosteriorMaps:
    if reason := why_none(maps, overlap):
        raise InputError(f"no posterior of these maps: {reason}")
    if overlap and len(overlap.correlation) != len(maps.images):
        given = f"an overlap of {len(overlap.correlation)} responses for {len(maps.images)} maps"
        raise InputError(f"{given}: expected the same responses")
    present = np.flatnonzero(maps.standard_error.count(axis=(1, 2, 3))).tolist()
    problems = {k: _problem(maps, overlap, k) for k in present}
    fits = {k: _structured(problem) for k, (problem, _) in problems.items()}
    flat = {k: _independent_pixels(problem) for k, (problem, _) in problems.items()}
    odds = {k: fits[k][1].log_evidence - flat[k].log_evidence for k in problems}
    images, deviations = (np.ma.masked_array(np.zeros(maps.images.shape), True) for _ in range(2))
    numbers = np.ma.masked_array(np.zeros((4, len(images))), True)
    priors: list[Prior | None] = [None] * len(images)
    for k, (problem, error) in problems.items():
        others = sum(np.clip(own, -2 * _ODDS, 2 * _ODDS) for other, own in odds.items() if other != k)
        if odds[k] > np.clip(_ODDS - others, -_ODDS, _ODDS):
            kind, fitted = fits[k]
            priors[k], (mean, variance) = _described(kind, odds[k], fitted), posterior_of(fitted)
        else:
            share = flat[k].share
            priors[k] = Prior("independent pixels", odds[k], flat[k].strength)
            mean, variance = share * problem.z, np.full(problem.z.shape, share)
        images[k] = np.moveaxis(mean, 0, -1) * error
        deviations[k] = np.moveaxis(np.sqrt(np.maximum(variance, 0)), 0, -1) * error
        known, unknown = images[k].var() * images[k].size, (deviations[k] ** 2).sum()
        signal, errors = known + unknown, (error**2).sum()
        numbers[:, k] = (
            np.sqrt(known / signal),
            np.sqrt(signal / (signal + errors)),
            errors / signal * known / unknown,
            structure_p_value(problem.whitened),
        )
    return PosteriorMaps(images, deviations, tuple(priors), *numbers)


def _problem(maps: ClassificationImages, overlap: Overlap | None, k: int) -> tuple[Problem, np.ndarray]:
    """A map in standard errors, with these errors [H, W, C]."""
    error = np.array(maps.standard_error[k])
    if maps.degrees_of_freedom is not None:
        error = np.broadcast_to(np.sqrt((error**2).mean(axis=(0, 1))), error.shape)
    roots = (None, None) if overlap is None else _roots(overlap, k, error.shape[:2])
    return Problem(np.moveaxis(np.array(maps.images[k]) / error, -1, 0), roots), error


def _structured(problem: Problem) -> tuple[Kind, Fit]:
    """The best prior under which pixels share something."""
    smooth = fit(problem)
    if peak := _peak(problem.whitened):
        grating = fit(problem, peak)
        if grating.log_evidence > max(smooth.log_evidence, 0) + _ODDS:
            return "one frequency", grating
    return "smooth", smooth


class _Flat(NamedTuple):
    """Independent pixels: log evidence, strength, and the posterior mean's share of the map."""

    log_evidence: float
    strength: Estimate
    share: float


def _independent_pixels(problem: Problem) -> _Flat:
    logs = np.linspace(-8, 8, 321)
    power, count = (problem.whitened**2).sum(), problem.z.size
    variance = np.exp(2 * logs)
    density = -0.5 * (count * np.log1p(variance) - power * variance / (1 + variance))
    density -= 0.5 * (logs / 2) ** 2 + 0.5 * np.log(2 * np.pi * 4)  # the hyperprior of a smooth map's strength
    log_evidence = special.logsumexp(density) + np.log(logs[1] - logs[0])
    weights = np.exp(density - special.logsumexp(density))
    ends = np.interp([0.5, 0.025, 0.975], np.cumsum(weights), logs)
    strength = Estimate(*(np.full(problem.channels, end) for end in np.exp(ends)))
    return _Flat(float(log_evidence), strength, float((weights * variance / (1 + variance)).sum()))


def _peak(whitened: np.ndarray) -> tuple[float, float] | None:
    """The spatial frequency that stands out of a map's spectrum, of rows and columns, in cycles per pixel.

    None if none does, or if it is so low that it is that of a smooth map.
    """
    power = (np.abs(np.fft.fft2(whitened, axes=(1, 2))) ** 2).mean(axis=0) / whitened[0].size
    power = ndimage.gaussian_filter(power, 1, mode="wrap")  # the mean of 4 pi frequencies
    place = np.unravel_index(power.argmax(), power.shape)
    rows, columns = (min(i, n - i) / n for i, n in zip(place, power.shape, strict=True))
    stands_out = power.max() > 1 + _OUTSTANDING / np.sqrt(4 * np.pi * len(whitened))
    return (float(rows), float(columns)) if stands_out and max(rows, columns) > _LOWEST else None


def _described(kind: Kind, odds: float, own: Fit) -> Prior:
    """The prior's numbers in pixels and standard errors, with intervals."""
    error = np.zeros(len(own.numbers))
    error[own.free] = np.sqrt(np.maximum(np.diag(own.covariance), 0))
    ends = [own.numbers, own.numbers - _SURE * error, own.numbers + _SURE * error]
    size, channels = np.array(own.problem.z.shape[1:]), own.problem.channels
    rows = channel_root(own.numbers[2 * AXIS : -1], channels)
    spread = np.linalg.norm(rows, axis=1)
    relative = spread / np.exp(own.numbers[2 * AXIS : 2 * AXIS + channels])  # of a channel's strength to its scale
    length, frequency, centre, width = ([end[[i, AXIS + i]] for end in ends] for i in range(AXIS))
    return Prior(
        kind,
        float(odds),
        Estimate(*(np.exp(end[2 * AXIS : 2 * AXIS + channels]) * relative for end in ends)),
        Estimate(*(np.exp(end[-1:]) for end in ends)),
        Estimate(*map(np.exp, length)),
        Estimate(*(np.abs(own) for own in frequency)) if own.free[list(FREQUENCIES)].all() else None,
        Estimate(*(end * size - 0.5 for end in centre)),
        Estimate(*(np.exp(end) * size for end in width)),
        rows @ rows.T / np.outer(spread, spread),
    )


def _roots(overlap: Overlap, k: int, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric square roots of the correlation of errors along rows and columns: its two central profiles."""
    table = overlap.correlation[k]
    profiles = table[:, table.shape[1] // 2], table[table.shape[0] // 2]
    found = []
    for profile, stride, count in zip(profiles, overlap.stride, size, strict=True):
        lag = np.subtract.outer(np.arange(count), np.arange(count))
        steps = lag // stride + len(profile) // 2
        inside = (lag % stride == 0) & (steps >= 0) & (steps < len(profile))
        values, vectors = np.linalg.eigh(np.where(inside, profile[np.clip(steps, 0, len(profile) - 1)], 0))
        root = vectors * np.sqrt(np.maximum(values, 0.02))
        covariance = root @ root.T
        covariance /= np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        values, vectors = np.linalg.eigh(covariance)
        found.append((vectors * np.sqrt(np.maximum(values, 1e-3))) @ vectors.T)
    return found[0], found[1]
