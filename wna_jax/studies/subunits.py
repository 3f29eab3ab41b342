"""Subunits: the few rectified features that drive a unit together.

An average shows one feature per unit, and the features of a spike-triggered covariance are at right angles to each
other, which what drives the unit need not be. Here a unit's response is fitted by a sum of rectified features,

    r(x) = [c + sum_m [k_m . x + b_m]_+]_+,

with pixels x in standard deviations of the noise. The fit starts from soft clusters of the noise that drives the unit,
by the closed-form updates of spike-triggered clustering (Shah et al. 2020, eLife 9:e45743), and goes on by least
squares. How many subunits there are is decided on samples that the fit has not seen.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import optimize
from threadpoolctl import threadpool_limits

from wna_jax.correlation import draw_samples
from wna_jax.networks import units
from wna_jax.noise import Noise
from wna_jax.runs import compilation, memory
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.studies import spike_triggered
from wna_jax.studies.receptive_fields import View, units_of

_HELD_OUT = 5  # one sample of five
_FEWEST = 100  # samples, and responses above 0 among them
_UPDATES = 30  # of the clusters; more change the fit by least squares little
_STEPS = 150  # of the fit by least squares
_TOLERANCE = 1e-5  # of the variance of the responses: where the fit stops
_BY_DEFAULT = 6
_BATCH = 2_000


class Subunits(NamedTuple):
    """The subunits of one unit, the strongest first.

    `kernels` k_m say by how much the drive of a subunit rises, in standard deviations of the unit's response, per
    standard deviation of the noise at a pixel; `offsets` are b_m, `baseline` c. `explained` is the share of the
    variance of held-out responses that 0, 1, 2, ... subunits explain; 0 subunits are a constant response, and a share
    is below 0 where a fit is worse than that. `errors` are the standard errors of its differences from the number that
    was chosen, paired by samples.
    """

    kernels: Float[np.ndarray, "m H W C"]
    offsets: Float[np.ndarray, " m"]
    baseline: float
    explained: Float[np.ndarray, " numbers"]
    errors: Float[np.ndarray, " numbers"]

    @property
    def weights(self) -> Float[np.ndarray, " m"]:
        """|k_m|: the standard deviation of each subunit's drive, before it is rectified."""
        return np.sqrt(np.square(self.kernels).sum(axis=(1, 2, 3)))

    def respond(self, x_nhwc: np.ndarray) -> Float[np.ndarray, " n"]:
        """The response to images in standard deviations of the noise, in standard deviations of the response."""
        flat = self.kernels.reshape(len(self.kernels), math.prod(self.kernels.shape[1:]))
        drive = x_nhwc.reshape(len(x_nhwc), -1) @ flat.T + self.offsets
        return np.maximum(self.baseline + np.maximum(drive, 0).sum(axis=1), 0)


def find(
    x_nhwc: Float[np.ndarray, "n H W C"],
    responses: Float[np.ndarray, " n"],
    *,
    most: int = 5,
    least_gain: float = 0.01,
    seed: int = 0,
) -> Subunits:
    """Finds the subunits of a unit from its responses to Gaussian white noise, at most `most`.

    `x` is the noise in standard deviations from its mean; the responses are activations or numbers of spikes. One
    sample of five is held out. The number of subunits is the smallest one from which no larger one improves the share
    of held-out variance by more than `least_gain` and more than two standard errors of the difference, paired by
    samples. It is 0 for a unit that answers to nothing in the noise. Of a unit with many inputs more samples tell more
    subunits apart: the number says what these samples show.

    Raises:
        InputError: responses that are negative, not finite, constant, or of another number than the samples; fewer than
            100 samples, or than 100 responses above 0; settings out of range.
    """
    x, y = np.asarray(x_nhwc, np.float32), np.asarray(responses, np.float64)
    if y.shape != x.shape[:1]:
        raise InputError(f"responses {y.shape} to {len(x):,} samples: expected one response per sample")
    if not (1 <= most <= 20 and 0 <= least_gain < 1):
        raise InputError(f"most is {most}, least_gain {least_gain}: expected 1 to 20 subunits, and a gain from 0 to 1")
    if not np.isfinite(y).all() or y.min(initial=0) < 0:
        raise InputError("responses are negative or not finite: expected activations after ReLU, or numbers of spikes")
    if (firing := np.count_nonzero(y)) < _FEWEST or y.std() < 1e-6 * y.mean():
        why = f"{firing:,} of {len(y):,} responses are above 0" if firing < _FEWEST else "all responses are the same"
        raise InputError(f"{why}: subunits need at least {_FEWEST} responses above 0 that differ; take more samples")
    shape, flat, y = x.shape[1:], x.reshape(len(x), -1), y / y.std()
    held = np.arange(len(y)) % _HELD_OUT == 0
    seen, answers = jnp.asarray(flat[~held]), jnp.asarray(y[~held], jnp.float32)
    models = [Subunits(np.zeros((0, *shape)), np.zeros(0), float(y[~held].mean()), np.zeros(0), np.zeros(0))]
    models += [_fitted(seen, answers, count, shape, seed) for count in range(1, most + 1)]
    squares = np.stack([(y[held] - model.respond(x[held])) ** 2 for model in models])
    squares /= squares[0].mean()

    def errors(count: int) -> np.ndarray:
        return (squares[count] - squares).std(axis=1) / math.sqrt(held.sum())

    def suffices(count: int) -> bool:
        gains = squares[count].mean() - squares[count + 1 :].mean(axis=1)
        return bool(np.all(gains <= np.maximum(least_gain, 2 * errors(count)[count + 1 :])))

    number = next(count for count in range(most + 1) if suffices(count))
    return models[number]._replace(explained=1 - squares.mean(axis=1), errors=errors(number))


class Found(NamedTuple):
    """The subunits of some units of a layer, by the unit's number.

    `averages` are spike-triggered averages of the same samples, in standard errors, `rates` shares of samples with an
    activation above 0. `not_fitted` says why the other units have no subunits.
    """

    view: View
    rates: dict[int, float]
    averages: dict[int, Float[np.ndarray, "H W C"]]
    subunits: dict[int, Subunits]
    not_fitted: dict[int, str]


def look_for(
    network: Any,
    layer: str,
    noise: Noise,
    num_samples: int,
    *,
    chosen: Sequence[int] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    most: int = 5,
    least_gain: float = 0.01,
    seed: int = 0,
    report: Report = silent,
) -> Found:
    """The subunits of chosen units of a layer, by default the 6 that fire most, in Gaussian noise.

    The network is any that `units` takes; of one that does not say its `image_shape`, it is given. `most` and
    `least_gain` are those of `find`. All samples are held in memory.

    Raises:
        InputError: units that do not exist; noise that is not Gaussian and white; more samples than fit into the
            memory; or as in `receptive_fields.units_of`.
    """
    spike_triggered.check_gaussian(noise, "subunits need")
    view = units_of(units.layer_activations(network, layer), image_shape or network.image_shape)
    shown = view.fitted(noise)
    what = f"{num_samples:,} samples of {math.prod(shown.shape)} pixels"
    memory.check(4 * 4 * num_samples * math.prod(shown.shape), what, "take fewer samples")
    numbers = spike_triggered.chosen_units(view, shown, chosen, _BY_DEFAULT, seed=seed)
    x, answers = _shown(shown, units.only(view.respond, numbers), num_samples, seed)
    rates = dict(zip(numbers, (answers > 0).mean(axis=0).tolist(), strict=True))
    found = Found(view, rates, {}, {}, {})
    for done, (unit, y) in enumerate(zip(numbers, answers.T, strict=True), start=1):
        try:
            found.subunits[unit] = find(x, y, most=most, least_gain=least_gain, seed=seed)
            deviations = y - y.mean()
            found.averages[unit] = np.tensordot(deviations, x, 1) / np.linalg.norm(deviations)
        except InputError as error:  # never fires, or too rarely
            found.not_fitted[unit] = str(error)
        report(Progress("subunits", done, len(numbers), "units"))
    return found


def _shown(noise: Noise, respond: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples in standard deviations of the noise [n, H, W, C], and the activations [n, units]."""
    mean, deviation = spike_triggered.mean_and_deviation(noise)
    samples, answers = [], []
    for first in range(0, count, _BATCH):
        images = draw_samples(noise, min(_BATCH, count - first), seed=seed, first=first)
        answers.append(np.asarray(compilation.call(respond, images)))
        samples.append(((np.asarray(images) - mean) / deviation).astype(np.float32))
    return np.concatenate(samples), np.concatenate(answers)


def explained_by_filters(
    kernel_hwc: Float[np.ndarray, "H W C"], filters_khwc: Float[np.ndarray, "k h w C"], most: int = 4
) -> Float[np.ndarray, " most"]:
    """The share of a kernel's squared length that 1, 2, ..., `most` shifted filters explain together.

    The filters, such as those of the layer below, are placed anywhere in the kernel, and added one by one, each time
    the one that is most like what is left, with the best weights (orthogonal matching pursuit, Pati et al. 1993).

    Raises:
        InputError: filters that are larger than the kernel, or have other channels.
    """
    shape, size = kernel_hwc.shape, filters_khwc.shape[1:]
    if len(size) != 3 or size[0] > shape[0] or size[1] > shape[1] or size[2] != shape[2]:
        raise InputError(f"filters {size} in a kernel {shape}: expected smaller ones of as many channels")
    filters = filters_khwc / np.maximum(np.sqrt(np.square(filters_khwc).sum(axis=(1, 2, 3), keepdims=True)), 1e-12)
    kernel = left = kernel_hwc / np.linalg.norm(kernel_hwc)
    taken, explained = np.zeros((0, kernel.size)), []
    for _ in range(most):
        match = np.abs(_matches(left, filters))
        row, column, k = np.unravel_index(match.argmax(), match.shape)
        placed = np.zeros(shape)
        placed[row : row + size[0], column : column + size[1]] = filters[k]
        taken = np.concatenate([taken, placed.reshape(1, -1)])
        best = np.linalg.lstsq(taken.T, kernel.ravel(), rcond=None)[0] @ taken
        left = kernel - best.reshape(shape)
        explained.append(1 - np.square(left).sum())
    return np.array(explained)


def _matches(kernel_hwc: np.ndarray, filters_khwc: np.ndarray) -> np.ndarray:
    """Inner products of filters with a kernel at all places, [rows, columns, k]."""
    windows = np.lib.stride_tricks.sliding_window_view(kernel_hwc, filters_khwc.shape[1:])[:, :, 0]
    return np.tensordot(windows, filters_khwc, ((2, 3, 4), (1, 2, 3)))


def weight_correlation(
    kernel_hwc: Float[np.ndarray, "H W C"],
    filters_khwc: Float[np.ndarray, "k h w C"],
    weights_hwku: Float[np.ndarray, "rows columns k units"],
) -> Float[np.ndarray, " units"] | None:
    """Pearson's r of the places at which filters match a kernel with the weights that units give them there.

    For a convolution of `weights` over maxima, in squares of s x s places, of convolutions with the filters: the match
    of filter c at (i, j) is the largest of its inner products with the kernel at these s x s places. None where such
    layers do not see a window of the kernel's size, for any s.
    """
    size, (rows, columns) = filters_khwc.shape[1:], weights_hwku.shape[:2]
    places = [length - side + 1 for length, side in zip(kernel_hwc.shape[:2], size[:2], strict=True)]
    step = places[0] // rows
    if weights_hwku.shape[2] != len(filters_khwc) or step < 1 or places != [step * rows, step * columns]:
        return None
    match = _matches(kernel_hwc, filters_khwc).reshape(rows, step, columns, step, -1).max(axis=(1, 3))
    return np.corrcoef(match.ravel(), weights_hwku.reshape(match.size, -1).T)[0, 1:]


def _fitted(x: jax.Array, y: jax.Array, count: int, shape: tuple[int, ...], seed: int) -> Subunits:
    """Least squares from the clusters; subunits in the order of their weights."""
    size = x.shape[1]
    centres = np.asarray(_clusters(x, y, jax.random.key(seed), count), np.float64)
    kernels = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    rectified = np.maximum(np.asarray(x) @ kernels.T.astype(np.float32), 0)
    with_constant = np.concatenate([rectified, np.ones((len(x), 1), np.float32)], axis=1)
    weights = np.maximum(optimize.nnls(with_constant, np.asarray(y))[0][:count], 0.05)
    baseline = float(y.mean()) - float(rectified.mean(axis=0) @ weights)
    start = np.concatenate([(kernels * weights[:, None]).ravel(), np.zeros(count), [baseline]])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _squared_error(jnp.asarray(parameters, jnp.float32), x, y)
        return float(value), np.asarray(gradient, np.float64)

    options = {"maxiter": _STEPS, "ftol": _TOLERANCE}
    with threadpool_limits(1, "blas"):  # its products are tiny: threads would wait for each other
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    kernels, offsets, baseline = found[: count * size].reshape(count, size), found[count * size : -1], found[-1]
    order = np.argsort(-np.linalg.norm(kernels, axis=1), kind="stable")
    return Subunits(kernels[order].reshape(-1, *shape), offsets[order], float(baseline), np.zeros(0), np.zeros(0))


@compilation.jit
def _squared_error(parameters: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean squared error of a model, and its gradient by the parameters [m D + m + 1]."""

    def error(parameters: jax.Array) -> jax.Array:
        count = (len(parameters) - 1) // (x.shape[1] + 1)
        kernels, offsets = parameters[: count * x.shape[1]].reshape(count, -1), parameters[-1 - count : -1]
        drive = parameters[-1] + jax.nn.relu(x @ kernels.T + offsets[None]).sum(axis=1)
        return jnp.square(jax.nn.relu(drive) - y).mean()

    return jax.value_and_grad(error)(parameters)


@compilation.jit
def _clusters(x: jax.Array, y: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """Centres of soft clusters of the noise that drives a unit, [count, D].

    Maximum likelihood of y ~ Poisson(sum_m w_m exp(k_m . x)) in Gaussian noise, by the updates of Shah et al. (2020):
    shares a_tm proportional to w_m exp(k_m . x_t), k_m = sum_t y_t a_tm x_t / sum_t y_t a_tm, and
    w_m = mean_t(y_t a_tm) exp(-|k_m|^2 / 2).
    """
    average = y @ x / y.sum()
    spread = 0.5 * jnp.linalg.norm(average) / math.sqrt(x.shape[1])
    start = average[None] + spread * jax.random.normal(key, (count, x.shape[1])), jnp.zeros(count)

    def update(_: int, clusters: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centres, log_weights = clusters
        shares = jax.nn.softmax(x @ centres.T + log_weights[None], axis=1) * y[:, None]
        total = shares.sum(axis=0) + 1e-6 * y.sum()
        centres = shares.T @ x / total[:, None]
        return centres, jnp.log(total / len(y)) - jnp.square(centres).sum(axis=1) / 2

    return jax.lax.fori_loop(0, _UPDATES, update, start)[0]
