"""Spike-triggered averages and covariances: which noise drives a unit.

A unit's spike-triggered average is the mean of the noise, weighted by the unit's activation (Chichilnisky 2001, Network
12:199). Its spike-triggered covariance tells along which directions the noise that drives it varies more, or less, than
noise does (Schwartz, Pillow, Rust & Simoncelli 2006, Journal of Vision 6(4):13).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float
from scipy import linalg, stats

from wna_jax import maps, statistics
from wna_jax.correlation import Moments, fields, reverse_correlate, reverse_correlate_in_parts
from wna_jax.correlation.fields import Overlap
from wna_jax.correlation.loop import Response
from wna_jax.data import Dataset
from wna_jax.maps import ClassificationImages
from wna_jax.networks import Network, units
from wna_jax.noise import Noise, covariance, natural
from wna_jax.posterior import PosteriorMaps, posterior_maps, why_none
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, Stopwatch, renamed, silent
from wna_jax.studies.receptive_fields import ReceptiveField, View, units_of

_RARE = 0.001
_FEWEST_SAMPLES = 20  # effective ones per pixel, for the eigenvalue test; with fewer, the Wishart null is a poor fit
_BY_DEFAULT = 12
_LOOK = 20_000  # samples from which firing rates are estimated before units are chosen
_MOST_PIXELS = 1024
_AVERAGE_ALPHA = 0.001  # error rate of the test that a unit has an average at all


class Layer(NamedTuple):
    """Spike-triggered averages of the units of one layer, of what each of them sees.

    `averages` is masked for a unit that never fires, `rates` is each unit's share of samples with an activation above
    0, and `sampling` is "independent" or "field". `weights` are the learned kernels of a first layer that is a
    convolution. `natural` holds averages of natural images, blurred by the images' covariance, which is taken out in
    `whitened`. `overlap` is how the errors of averages over windows depend on each other.
    """

    field: ReceptiveField
    averages: ClassificationImages
    reliability: Float[np.ma.MaskedArray, " units"]
    rates: Float[np.ndarray, " units"]
    sampling: str
    samples_per_second: float | None
    weights: Float[np.ndarray, "units h w C"] | None
    natural: ClassificationImages | None
    whitened: ClassificationImages | None
    overlap: Overlap | None = None

    def posterior(self, some: Sequence[int] | np.ndarray) -> PosteriorMaps | None:
        """The averages of some units under a prior that they are smooth, local, or of one frequency.

        None in noise whose pixels depend on each other.
        """
        rows = np.asarray(some, int)
        averages, overlap = self.averages.of_responses(rows), self.overlap
        overlap = overlap and overlap._replace(correlation=overlap.correlation[rows])
        return None if why_none(averages, overlap) else posterior_maps(averages, overlap)

    @property
    def significant(self) -> np.ndarray:
        """Pixels of the averages with p < .05 over all units, bool [units, h, w, C]."""
        return statistics.significant_pixels(statistics.z_map(self.averages), num_maps=len(self.rates))

    @property
    def dead(self) -> np.ndarray:
        """The numbers of the units that never fire."""
        return np.flatnonzero(self.rates == 0)

    @property
    def rare(self) -> np.ndarray:
        """The numbers of the units that fire, but in less than one of 1,000 samples."""
        return np.flatnonzero((self.rates > 0) & (self.rates < _RARE))

    @property
    def correlation(self) -> Float[np.ma.MaskedArray, " units"]:
        """Pearson's r of each average with the unit's weights; masked for a unit without."""
        if self.weights is None:
            return np.ma.masked_all(len(self.rates))
        return statistics.map_correlation(self.averages.images, np.ma.masked_array(self.weights))


def look_at(
    network: Any,
    layer: str,
    noise: Noise,
    num_samples: int,
    *,
    image_shape: tuple[int, int, int] | None = None,
    natural_images: Dataset | None = None,
    natural_samples: int = 200_000,
    ridge: float = 0.01,
    report: Report = silent,
    **options: Any,
) -> Layer:
    """Spike-triggered averages of all units of a layer (`units.layer_names`), in one pass, in noise.

    The network is any that `units` takes; of one that does not say its `image_shape`, it is given.

    With `natural_images`, as many random windows of its training images as `natural_samples` says are averaged, too;
    the `ridge` is that of their covariance, as in `maps.whitened_images`. `options` are those of
    `reverse_correlate_in_parts`, of which `seed` and `batch_size` hold for both.

    Raises:
        InputError: as `receptive_fields.units_of`; or noise that exists only in the size of an image, where the units
            see another.
    """
    view = units_of(units.layer_activations(network, layer), image_shape or network.image_shape)
    shown, watch = view.fitted(noise), Stopwatch(report)
    parts = reverse_correlate_in_parts(shown, view.respond, num_samples, report=watch, **options)
    moments = parts.first + parts.second
    averages = view.crop(maps.classification_images(moments, shown))
    reliability = statistics.split_half(parts.first, parts.second, shown).reliability
    rates, sampling = moments.count / moments.num_samples, "independent" if moments.field_sums is None else "field"
    of_images, whitened = None, None
    if natural_images:
        windows = natural(natural_images, view.noise_shape[:2])
        how = {name: value for name, value in options.items() if name in ("seed", "batch_size")}
        how |= {"sampling": "independent", "report": renamed(report, "natural images")}
        of_windows = reverse_correlate(windows, view.respond, natural_samples, **how)
        of_images = view.crop(maps.classification_images(of_windows, windows))
        whitened = view.crop(maps.whitened_images(of_windows, windows, covariance(windows), ridge))
    weights = units.first_kernels(network, layer, image_shape)
    overlap = fields.overlap(shown, view.respond) if moments.field_sums else None
    return Layer(view.field, averages, reliability, rates, sampling, watch.rate, weights, of_images, whitened, overlap)


def with_products(respond: Response, noise: Noise) -> Response:
    """A response from whose moments spike-triggered averages and covariances are made.

    From a response, noise -> activations w [n, units], and the noise that will be shown, it makes: noise -> weights
    "average" w [n, units] and "products" w x [n, units D], where x are the D = H W C pixels in deviations from the
    mean. `Moments.sum` of the latter is sum w x (image), [units D, H, W, C].

    Raises:
        InputError: noise that is not Gaussian and white. In other noise directions depend on each other, and a unit
            that only adds seems to have further features.
    """
    check_gaussian(noise, "a spike-triggered covariance needs")
    return Partial(_with_products, respond, *(pixels.astype(np.float32) for pixels in mean_and_deviation(noise)))


def check_gaussian(noise: Noise, who_needs: str) -> None:
    """Raises an InputError for noise that is not Gaussian and white."""
    if not (noise.white and noise.gaussian) or noise.present is not None:
        raise InputError(f"{noise.name} noise: {who_needs} Gaussian noise of independent pixels: take matched")


def mean_and_deviation(noise: Noise) -> list[np.ndarray]:
    """Mean and standard deviation of each pixel, [H, W, C] each."""
    return [np.broadcast_to(value, noise.shape) for value in (noise.mean, noise.deviation)]


def _with_products(respond: Response, mean: jax.Array, deviation: jax.Array, images: jax.Array) -> dict[str, jax.Array]:
    w = respond(images).astype(jnp.float32)
    x = ((images - mean[None]) / deviation[None]).reshape(len(images), -1)
    return {"average": w, "products": (w[:, :, None] * x[:, None, :]).reshape(len(images), -1)}


class Covariance(NamedTuple):
    """The spike-triggered covariance of one unit, in units of the noise's variance, without the average's direction.

    `features` are the D - 1 eigenvectors (D where there is no average), of length 1, in the order of the rising
    `eigenvalues`; an eigenvalue is 1 for a direction that does not matter. `low` and `high` are the smallest eigenvalue
    under the null at its quantile alpha / 2, and the largest at 1 - alpha / 2. `excitatory` are the indices of features
    above `high`, which raise the activation, `suppressive` of those below `low`, which lower it; the strongest first.
    `effective_samples` is (sum w)^2 / sum w^2.
    """

    eigenvalues: Float[np.ndarray, " features"]
    features: Float[np.ndarray, "features H W C"]
    low: float
    high: float
    excitatory: np.ndarray
    suppressive: np.ndarray
    effective_samples: float


def spike_triggered_covariance(
    moments: Mapping[str, Moments], unit: int, noise: Noise, *, alpha: float = 0.05, nulls: int = 199, seed: int = 0
) -> Covariance:
    """Directions along which the noise that drives a unit varies more (or less) than noise does.

    The moments are those of a response `with_products`, from independent samples of the noise.
    C = sum w x x^T / sum w, with x in deviations from the noise's mean. The direction of the spike-triggered average is
    projected out, where that is more than noise (p < .001), and the rest decomposed. Under the null, weights w
    independent of x, C is close to a Wishart matrix of n = (sum w)^2 / sum w^2 samples, and eigenvalues beyond the
    extreme ones of simulated matrices (`nulls` of them) are significant at the error rate alpha for one unit (Schwartz
    et al. 2006; for many dimensions the extremes lie at (1 ± sqrt(D / n))^2, Marchenko & Pastur 1967). For rectified
    normal weights and n of at least 20 D, the error rate of the test is .03 to .08 at alpha = .05, also for units that
    fire in 1% of the samples; weights with heavier tails need more samples.

    Raises:
        InputError: a unit that does not exist, never fired or has fewer than 20 D effective samples, or noise of
            another size.
    """
    averages, products = moments["average"], moments["products"]
    count, size, shape = len(averages.weight_sum), math.prod(noise.shape), products.sum.shape
    if not 0 <= unit < count:
        raise InputError(f"unit {unit}: expected one from 0 to {count - 1}")
    if shape != (count * size, *noise.shape):
        raise InputError(f"products {shape} of {count} units, noise {noise.shape}: expected the same noise")
    weight = averages.weight_sum[unit]
    if not weight > 0:
        raise InputError(f"unit {unit} never fired: it has no spike-triggered covariance")
    effective = float(weight**2 / averages.weight_square_sum[unit])
    if effective < _FEWEST_SAMPLES * size:
        way_out = f"take {math.ceil(_FEWEST_SAMPLES * size / effective)} times as many samples"
        expected = f"expected at least {_FEWEST_SAMPLES} per pixel, {way_out}"
        raise InputError(f"unit {unit} has {effective:,.0f} effective samples of {size} pixels: {expected}")
    mean, deviation = map(np.ravel, mean_and_deviation(noise))
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
    smallest, largest = _null_extremes(rest.shape[1], effective, nulls, seed)
    low, high = float(np.quantile(smallest, alpha / 2)), float(np.quantile(largest, 1 - alpha / 2))
    excitatory, suppressive = np.flatnonzero(eigenvalues > high)[::-1], np.flatnonzero(eigenvalues < low)
    return Covariance(eigenvalues, features, low, high, excitatory, suppressive, effective)


def chosen_units(
    view: View, shown: Noise, chosen: Sequence[int] | None, by_default: int = _BY_DEFAULT, *, seed: int = 0
) -> list[int]:
    """The chosen units, without repetitions; by default those that fire most, of 20,000 samples of the noise.

    Raises:
        InputError: units that do not exist.
    """
    fired = reverse_correlate(shown, view.respond, _LOOK, seed=seed, sampling="independent").count
    if chosen is None:
        return np.argsort(-fired, kind="stable")[:by_default].tolist()
    if not all(0 <= unit < len(fired) for unit in chosen):
        known = f"expected numbers from 0 to {len(fired) - 1}, such as 0,3"
        raise InputError(f"units is {','.join(map(str, chosen))}: {known}")
    return list(dict.fromkeys(chosen))


class Features(NamedTuple):
    """Which features of their receptive field some units of a layer square, rather than add.

    `averages` are the spike-triggered averages of the `units`, in this order; `covariances` are theirs by the unit's
    number, and `not_tested` says why the other units have none.
    """

    view: View
    units: list[int]
    averages: ClassificationImages
    covariances: dict[int, Covariance]
    not_tested: dict[int, str]


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
    """Spike-triggered averages and covariances of chosen units of a layer, by default the 12 that fire most.

    The noise is Gaussian, in any size; `alpha` is that of `spike_triggered_covariance`. `seed`, `identity`, to which
    the chosen units are added, and further `options` are those of `reverse_correlate_in_parts`.

    Raises:
        InputError: units that do not exist or see more than 1,024 pixels; or as in `with_products`.
    """
    view = units_of(units.layer_activations(network, layer), network.image_shape)
    pixels = math.prod(view.noise_shape)
    if pixels > _MOST_PIXELS:
        problem = f"units of {layer} are shown noise of {pixels} pixels, whose covariance has {pixels**2:,} entries"
        raise InputError(f"{problem}: expected at most {_MOST_PIXELS} pixels, as in a layer further down")
    shown = view.fitted(noise)
    how: dict[str, Any] = {"seed": seed, "sampling": "independent"}
    chosen = chosen_units(view, shown, chosen, seed=seed)
    respond = with_products(units.only(view.respond, chosen), shown)
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


def _null_extremes(size: int, samples: float, count: int, seed: int) -> np.ndarray:
    """Smallest and largest eigenvalues of `count` covariance matrices of that many Gaussian samples, [2, count].

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
    return ends
