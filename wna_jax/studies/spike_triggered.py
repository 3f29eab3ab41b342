"""Spike-triggered averages and covariances: which noise drives a unit.

A unit's spike-triggered average is the mean of the noise, weighted by the unit's activation (Chichilnisky 2001, Network
12:199). Its spike-triggered covariance tells along which directions the noise that drives it varies more, or less, than
noise does (Schwartz, Pillow, Rust & Simoncelli 2006, Journal of Vision 6(4):13).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial
from scipy import linalg, stats

from wna_jax import maps, statistics
from wna_jax.correlation import Moments, reverse_correlate, reverse_correlate_in_parts
from wna_jax.correlation.loop import Response
from wna_jax.data import Dataset
from wna_jax.maps import ClassificationImages
from wna_jax.networks import Network, units
from wna_jax.noise import Noise, covariance, natural
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, Stopwatch, silent
from wna_jax.studies.receptive_fields import ReceptiveField, View, some_units, units_of

RARE = 0.001
"""Firing rate below which a unit fires rarely."""
FEWEST_SAMPLES = 20
"""Minimum effective samples per pixel for the eigenvalue test; with fewer, the Wishart null is a poor fit."""
_BY_DEFAULT = 12
_LOOK = 20_000
"""Samples from which firing rates are estimated before units are chosen."""
_MOST_PIXELS = 1024
_AVERAGE_ALPHA = 0.001
"""Error rate of the test that a unit has an average at all."""


class Layer(NamedTuple):
    """Spike-triggered averages of the units of one layer, of what each of them sees."""

    field: ReceptiveField
    averages: ClassificationImages
    """[units, h, w, C]; a unit that never fires is masked."""
    reliability: np.ma.MaskedArray
    """Split-half reliability of each average, [units]."""
    rates: np.ndarray
    """Firing rates: share of the samples with an activation above 0, [units]."""
    sampling: str
    """"independent" or "field"."""
    samples_per_second: float | None
    weights: np.ndarray | None
    """The learned kernels [units, h, w, C] of a first layer that is a convolution."""
    natural: ClassificationImages | None
    """Averages of natural images, blurred by the images' covariance."""
    whitened: ClassificationImages | None
    """The same with the covariance taken out."""

    @property
    def z(self) -> np.ma.MaskedArray:
        """The averages in standard errors."""
        return statistics.z_map(self.averages)

    @property
    def significant(self) -> np.ndarray:
        """Pixels of the averages with p < .05 over all units, bool [units, h, w, C]."""
        return statistics.significant_pixels(self.z, num_maps=len(self.rates))

    @property
    def dead(self) -> np.ndarray:
        """The numbers of the units that never fire."""
        return np.flatnonzero(self.rates == 0)

    @property
    def rare(self) -> np.ndarray:
        """The numbers of the units that fire, but in less than `RARE` of the samples."""
        return np.flatnonzero((self.rates > 0) & (self.rates < RARE))

    @property
    def correlation(self) -> np.ma.MaskedArray:
        """Pearson's r of each average with the unit's weights, [units]; masked for a unit without."""
        if self.weights is None:
            return np.ma.masked_all(len(self.rates))
        return statistics.map_correlation(self.averages.images, np.ma.masked_array(self.weights))


def look_at(
    network: Network,
    layer: str,
    noise: Noise,
    num_samples: int,
    *,
    natural_images: Dataset | None = None,
    natural_samples: int = 200_000,
    ridge: float = 0.01,
    seed: int = 0,
    batch_size: int | None = None,
    report: Report = silent,
    **options: Any,
) -> Layer:
    """Spike-triggered averages of all units of a layer, in one pass, in noise and in natural images.

    Args:
        network: whose layer it is.
        layer: its name, one of `units.layer_names`.
        noise: in any size.
        num_samples: of noise.
        natural_images: random windows of its training images are averaged too.
        natural_samples: how many windows.
        ridge: of the covariance of these, as in `maps.whitened_images`.
        seed: of both, as are `batch_size` and `report`, in `reverse_correlate_in_parts`.
        batch_size: samples per network pass.
        report: progress, in samples.
        **options: further ones of `reverse_correlate_in_parts`, for the noise.

    Raises:
        InputError: as `receptive_fields.units_of`; or noise that exists only in the size of an image, where the units
            see another.
    """
    view = units_of(units.layer_activations(network, layer), network.image_shape)
    shown, watch = view.fitted(noise), Stopwatch(report)
    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size}
    parts = reverse_correlate_in_parts(shown, view.respond, num_samples, report=watch, **how, **options)
    moments = parts.first + parts.second
    of_images, whitened = None, None
    if natural_images:
        windows = natural(natural_images, view.noise_shape[:2])
        how |= {"sampling": "independent", "report": report}
        of_windows = reverse_correlate(windows, view.respond, natural_samples, **how)
        of_images = view.crop(maps.classification_images(of_windows, windows))
        whitened = view.crop(maps.whitened_images(of_windows, windows, covariance(windows), ridge))
    return Layer(
        view.field,
        view.crop(maps.classification_images(moments, shown)),
        statistics.split_half(parts.first, parts.second, shown).reliability,
        moments.count / moments.num_samples,
        "independent" if moments.field_sums is None else "field",
        watch.rate,
        units.first_kernels(network, layer),
        of_images,
        whitened,
    )


def with_products(respond: Response, noise: Noise) -> Response:
    """A response from whose moments spike-triggered averages and covariances are made.

    Args:
        respond: noise [n, H, W, C] -> activations w [n, units].
        noise: the noise that will be shown.

    Returns:
        Noise -> weights "average" w [n, units] and "products" w x [n, units D], where x are the D = H W C pixels in
        deviations from the mean: `Moments.sum` of the latter is sum w x (image), [units D, H, W, C].

    Raises:
        InputError: noise that is not Gaussian and white. In other noise directions depend on each other, and a unit
            that only adds seems to have further features.
    """
    if not (noise.white and noise.gaussian) or noise.present is not None:
        raise InputError(
            f"{noise.name} noise: a spike-triggered covariance needs Gaussian noise of independent pixels: take matched"
        )
    mean, deviation = (
        np.broadcast_to(value, noise.shape).astype(np.float32) for value in (noise.mean, noise.deviation)
    )

    return Partial(_with_products, respond, mean, deviation)


def _with_products(respond: Response, mean: jax.Array, deviation: jax.Array, images: jax.Array) -> dict[str, jax.Array]:
    w = respond(images)
    x = ((images - mean[None]) / deviation[None]).reshape(len(images), -1)
    return {"average": w, "products": (w[:, :, None] * x[:, None, :]).reshape(len(images), -1)}


class Covariance(NamedTuple):
    """The spike-triggered covariance of one unit, in units of the noise's variance, without the average's direction."""

    eigenvalues: np.ndarray
    """[D - 1], or [D] where there is no average, in increasing order; 1 for a direction that does not matter."""
    features: np.ndarray
    """The eigenvectors [D - 1, H, W, C] or [D, H, W, C], of length 1, in the same order."""
    low: float
    """The smallest eigenvalue under the null, at its quantile alpha / 2."""
    high: float
    """The largest eigenvalue under the null, at its quantile 1 - alpha / 2."""
    excitatory: np.ndarray
    """Indices of the features with eigenvalues above `high`, which raise the activation; the strongest first."""
    suppressive: np.ndarray
    """Indices of the features with eigenvalues below `low`, which lower the activation; the strongest first."""
    effective_samples: float
    """(sum w)^2 / sum w^2."""


def spike_triggered_covariance(
    moments: Mapping[str, Moments], unit: int, noise: Noise, *, alpha: float = 0.05, nulls: int = 199, seed: int = 0
) -> Covariance:
    """Directions along which the noise that drives a unit varies more (or less) than noise does.

    C = sum w x x^T / sum w, with x in deviations from the noise's mean. The direction of the spike-triggered average is
    projected out, where that is more than noise (p < .001), and the rest decomposed. Under the null, weights w
    independent of x, C is close to a Wishart matrix of n = (sum w)^2 / sum w^2 samples, and eigenvalues beyond the
    extreme ones of simulated matrices are significant (Schwartz et al. 2006; for many dimensions the extremes lie at
    (1 ± sqrt(D / n))^2, Marchenko & Pastur 1967). For rectified normal weights and n of at least 20 D, the error rate
    of the test is .03 to .08 at alpha = .05, also for units that fire in 1% of the samples; weights with heavier tails
    need more samples.

    Args:
        moments: of a response `with_products`, from independent samples.
        unit: its number.
        noise: the noise of these samples.
        alpha: error rate of the test for one unit.
        nulls: the number of simulated matrices.
        seed: random seed of the simulated matrices.

    Raises:
        InputError: a unit that does not exist, never fired or has fewer than 20 D effective samples, or noise of
            another size.
    """
    averages, products = moments["average"], moments["products"]
    count, size = len(averages.weight_sum), int(np.prod(noise.shape))
    if not 0 <= unit < count:
        raise InputError(f"unit {unit}: expected one from 0 to {count - 1}")
    if products.sum.shape != (count * size, *noise.shape):
        raise InputError(
            f"products {products.sum.shape} of {count} units, noise {noise.shape}: expected the same noise"
        )
    weight = averages.weight_sum[unit]
    if not weight > 0:
        raise InputError(f"unit {unit} never fired: it has no spike-triggered covariance")
    mean, deviation = (np.broadcast_to(value, noise.shape).ravel() for value in (noise.mean, noise.deviation))
    effective = float(weight**2 / averages.weight_square_sum[unit])
    if effective < FEWEST_SAMPLES * size:
        raise InputError(
            f"unit {unit} has {effective:,.0f} effective samples of {size} pixels: expected at least {FEWEST_SAMPLES} "
            f"per pixel, take {math.ceil(FEWEST_SAMPLES * size / effective)} times as many samples"
        )
    own = slice(unit * size, (unit + 1) * size)
    raw = products.sum[own].reshape(size, size) - np.outer(products.weight_sum[own], mean)
    matrix = raw / deviation / weight
    direction = ((averages.sum[unit].ravel() / weight - mean) / deviation)[:, None]
    # A basis of what is left without the average, if there is one. That of mere noise would take a part of the features
    # with it: it is largest in their directions.
    rest = np.eye(size)
    if effective * float(np.square(direction).sum()) > stats.chi2.isf(_AVERAGE_ALPHA, size):
        rest = np.linalg.qr(np.concatenate([direction, rest[:, : size - 1]], axis=1))[0][:, 1:]
    eigenvalues, vectors = np.linalg.eigh(rest.T @ matrix @ rest)
    features = (rest @ vectors).T.reshape(-1, *noise.shape)
    extremes = _null_extremes(rest.shape[1], effective, nulls, seed)
    low, high = np.quantile(extremes[0], alpha / 2), np.quantile(extremes[1], 1 - alpha / 2)
    excitatory, suppressive = np.flatnonzero(eigenvalues > high)[::-1], np.flatnonzero(eigenvalues < low)
    return Covariance(eigenvalues, features, float(low), float(high), excitatory, suppressive, effective)


class Features(NamedTuple):
    """Which features of their receptive field some units of a layer square, rather than add."""

    view: View
    units: list[int]
    """Their numbers."""
    averages: ClassificationImages
    """Spike-triggered averages of these units, in this order."""
    covariances: dict[int, Covariance]
    """By the unit's number."""
    not_tested: dict[int, str]
    """Why the other units have no covariance."""


def look_for_features(
    network: Network,
    layer: str,
    noise: Noise,
    num_samples: int,
    *,
    chosen: Sequence[int] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    identity: Mapping[str, Any] | None = None,
    **options: Any,
) -> Features:
    """Spike-triggered averages and covariances of some units of a layer, in one pass.

    Args:
        network: whose layer it is.
        layer: its name, one of `units.layer_names`.
        noise: Gaussian, in any size.
        num_samples: of noise.
        chosen: the units' numbers; by default the 12 that fire most.
        alpha: as in `spike_triggered_covariance`.
        seed: of the noise.
        identity: as in `reverse_correlate_in_parts`; the chosen units are added.
        **options: further ones of it.

    Raises:
        InputError: units that do not exist or see more than 1,024 pixels; or as in `with_products`.
    """
    view = units_of(units.layer_activations(network, layer), network.image_shape)
    pixels = math.prod(view.noise_shape)
    if pixels > _MOST_PIXELS:
        raise InputError(
            f"units of {layer} are shown noise of {pixels} pixels, whose covariance has {pixels**2:,} entries: "
            f"expected at most {_MOST_PIXELS} pixels, as in a layer further down"
        )
    shown = view.fitted(noise)
    how: dict[str, Any] = {"seed": seed, "sampling": "independent"}
    look = reverse_correlate(shown, view.respond, _LOOK, **how)
    count = len(look.count)
    if chosen is None:
        chosen = np.argsort(-look.count, kind="stable")[:_BY_DEFAULT].tolist()
    elif not all(0 <= unit < count for unit in chosen):
        raise InputError(f"units is {','.join(map(str, chosen))}: expected numbers from 0 to {count - 1}, such as 0,3")
    chosen = list(dict.fromkeys(chosen))
    respond = with_products(some_units(view.respond, chosen), shown)
    identity = {**(identity or {}), "units": chosen}
    moments = reverse_correlate(shown, respond, num_samples, identity=identity, **how, **options)
    found: dict[int, Covariance] = {}
    not_tested: dict[int, str] = {}
    for i, unit in enumerate(chosen):
        try:
            found[unit] = spike_triggered_covariance(moments, i, shown, alpha=alpha, seed=seed)
        except InputError as error:  # never fired, or too few samples
            not_tested[unit] = str(error).replace(f"unit {i} ", "", 1)
    return Features(view, chosen, maps.classification_images(moments["average"], shown), found, not_tested)


def _null_extremes(size: int, samples: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest eigenvalues of `count` covariance matrices of that many Gaussian samples.

    A Wishart matrix has the eigenvalues of a tridiagonal matrix of chi-squared numbers (Dumitriu & Edelman 2002, J.
    Math. Phys. 43:5830), of which there are 2 D - 1 instead of D^2.
    """
    freedom = np.maximum(samples - np.arange(size), 1), np.arange(size - 1, 0, -1)
    squares = np.random.default_rng(seed).chisquare(np.concatenate(freedom), (count, 2 * size - 1))
    own, shared = np.split(squares, [size], axis=1)
    diagonals = (own + np.pad(shared, ((0, 0), (1, 0)))) / samples
    besides = np.sqrt(own[:, :-1] * shared) / samples
    ends = np.empty((2, count))
    by_number = 2
    for i, matrix in enumerate(zip(diagonals, besides, strict=True)):
        for end, number in enumerate((1, size)):  # as eigvalsh_tridiagonal does, whose checks take four times as long
            ends[end, i] = linalg.lapack.dstebz(*matrix, by_number, 0.0, 1.0, number, number, 0.0, "E")[1][0]
    return ends[0], ends[1]
