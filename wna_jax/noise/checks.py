"""Is a noise what it declares? Its draws are asked once, before a run: the errors of all maps rest on it."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.noise.base import Noise, Sampler
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.runs.seeds import key_of

_KEY_OF_CHECKS = 0x63686B  # neither samples of a run nor the draws that moments are estimated from
_VALUES, _FEWEST, _MOST, _COMPARED = 2**20, 64, 2048, 1024  # draws, as many as make so many values
_ERRORS = 5  # standard errors that may be chance in one test
_UNRELATED = 20  # the same for the sum of squared correlations, which is skewed where pixels are few
_HARMLESS = 0.01  # of the deviation: errors of maps that are wrong by less mislead nobody


def check(noise: Noise) -> None:
    """Compares what a noise declares with 64 to 2,048 of its draws, once per process.

    Draws must be finite float32 images of the noise's shape that differ from key to key. Their mean and deviation must
    be those declared, of each pixel and over all: within 5 standard errors (more where many pixels are tested, and by
    Bernstein's inequality, so that events that are too rare to be seen are no evidence) beyond 1% of the deviation. In
    white noise the correlations of neighbours, of all pairs of pixels and of their squares, and the sum of all squared
    correlations (estimated without bias from products of draws; Chen, Zhang & Zhong 2010, JASA 105:810) must be 0.
    Gaussian noise must have the skewness and kurtosis of normal numbers.

    Raises:
        InputError: the noise is not what it declares; the message says what was found, and what to do.
    """
    drawn = replace(noise, present=None)  # what is shown declares nothing
    _check(_Known(fingerprint(drawn), drawn))


@dataclass(frozen=True)
class _Known:
    """A noise as the key of a cache."""

    fingerprint: str
    noise: Noise = field(compare=False)


@functools.lru_cache(maxsize=32)
def _check(known: _Known) -> None:
    noise = known.noise
    shapes = [noise.shape[2:]] if noise.draw else [noise.shape[2:], noise.shape]
    for what, value in (("mean", noise.mean), ("deviation", noise.deviation)):
        if np.shape(value) not in shapes or not np.isfinite(value).all() or (what == "deviation" and np.min(value) < 0):
            wanted = f"expected finite numbers of shape {' or '.join(map(str, shapes))}"
            raise InputError(f"{noise.name} noise declares a {what} of shape {np.shape(value)}: {wanted}")
    name = f"{noise.name} noise"
    n = int(np.clip(_VALUES // np.prod(noise.shape), _FEWEST, _MOST))
    from_the_key = "use jax.random with the key, and jax.numpy: NumPy is called once, and its image stays"
    try:
        drawn = jax.eval_shape(lambda key: noise.sample(key), key_of(0))
    except Exception as error:  # whatever a function of somebody raises
        said = f"{(str(error).splitlines() or [''])[0]}; expected a function of a random key"
        if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
            said = f"JAX cannot trace it; {from_the_key}"
        raise InputError(f"{name} raised {type(error).__name__}: {said}") from error
    kind, shape = getattr(drawn, "dtype", type(drawn).__name__), getattr(drawn, "shape", ())
    if (kind, shape) != (jnp.float32, noise.shape):
        raise InputError(f"{name} draws {kind} of shape {shape}: expected a float32 image of shape {noise.shape}")
    draws = np.asarray(_draws(noise.sample, np.arange(n, dtype=np.uint32)))
    if not np.isfinite(draws).all():
        raise InputError(f"{name} draws NaN or infinite numbers: expected finite ones")
    mean, deviation = (np.broadcast_to(value, noise.shape) for value in (noise.mean, noise.deviation))
    if (draws == draws[0]).all() and deviation.any():
        raise InputError(f"{name} draws the same image for every key: {from_the_key}")
    for what, declared, found, where in _wrong_moments(draws, mean, deviation):
        remedy = "declare what it draws, or let noise.of_dependent_pixels estimate it"
        raise InputError(f"{name} declares {what} {declared:.4g}, but {n:,} draws have {found:.4g} {where}: {remedy}")
    varies = deviation > 1e-6 * np.abs(draws).max()
    standard = (draws - np.float32(mean)) * np.float32(varies / np.where(varies, deviation, 1))
    for what, correlation in _dependent(standard, varies) if noise.white else ():
        remedy = "declare white=False, and null maps get the covariance of its draws"
        raise InputError(f"{name} declares white=True, but {what} have the correlation {correlation:.2g}: {remedy}")
    for what, power, normal in (("skewness", 3, 0.0), ("kurtosis", 4, 3.0)) if noise.gaussian and varies.any() else ():
        moment = functools.reduce(np.multiply, [standard] * power).sum(axis=(1, 2, 3)) / varies.sum()
        if _of_mean(moment - normal, 0.02) > _ERRORS:
            raise InputError(f"{name} declares gaussian=True, but has the {what} {moment.mean():.2g}: declare False")


@compilation.jit
def _draws(sample: Sampler, indices: jax.Array) -> jax.Array:
    key = jax.random.fold_in(key_of(0), _KEY_OF_CHECKS)
    return jax.vmap(lambda i: sample(jax.random.fold_in(key, i)))(indices)


def _wrong_moments(
    draws: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> Iterator[tuple[str, float, float, str]]:
    """What is wrong, with the value declared, that of the draws, and where."""
    n, own_mean = len(draws), draws.mean(axis=0, dtype=np.float64)
    scale = np.maximum(deviation, max(1e-5 * np.abs(draws).max(), 1e-30))  # of what does not vary: rounding
    unit, variance = np.float32(scale), scale**2
    squares = np.square((draws - np.float32(own_mean)) / unit)
    power = squares.sum(axis=0, dtype=np.float64) / (n - 1)
    of_all = np.einsum("nhwc,hwc->n", squares, np.float32(variance)) * (n / (n - 1)) - np.sum(deviation**2)
    if _of_mean(of_all, 2 * _HARMLESS * variance.sum()) > _ERRORS:
        rms = np.sqrt([np.mean(deviation**2), np.mean(power * variance)])
        yield "the deviation", *rms.tolist(), "(root mean square over pixels)"
    distances = draws - np.float32(mean)
    if _of_mean(distances.sum(axis=(1, 2, 3)), _HARMLESS * scale.sum()) > _ERRORS:
        yield "the mean", float(mean.mean()), float(own_mean.mean()), "(mean over pixels)"
    typical = max(power.mean(), 1e-30)
    spread = max(np.square(squares).mean(dtype=np.float64) / typical**2 - 1, 0)  # of squares: the kurtosis less 1
    beyond = n * (np.abs(power - (deviation / scale) ** 2) - 2 * _HARMLESS)
    of_deviation = _of_sum(beyond, n * spread, squares.max() / typical)
    of_mean = _of_sum(n * (np.abs(own_mean - mean) / scale - _HARMLESS), n, np.abs(distances / unit).max())
    believed = np.sqrt(_ERRORS**2 + 2 * np.log(2 * deviation.size))
    for what, errors, declared, own in (
        ("the deviation", of_deviation, deviation, np.sqrt(power) * scale),
        ("the mean", of_mean, mean, own_mean),
    ):
        worst = np.unravel_index(errors.argmax(), errors.shape)
        if errors[worst] > believed:
            yield what, float(declared[worst]), float(own[worst]), f"at pixel {tuple(map(int, worst))}"


def _dependent(standard: np.ndarray, varies: np.ndarray) -> Iterator[tuple[str, float]]:
    """Which pixels are correlated, and how much: of draws [n, H, W, C] in deviations, 0 where nothing varies."""
    n, pixels, centred = len(standard), int(varies.sum()), standard - standard.mean(axis=0)
    every, but_last, but_first = slice(None), slice(-1), slice(1, None)
    for what, *pair in (
        ("neighbours to the right", (every, but_last), (every, but_first)),
        ("neighbours below", (but_last,), (but_first,)),
        ("diagonal neighbours", (but_last, but_last), (but_first, but_first)),
        ("diagonal neighbours", (but_last, but_first), (but_first, but_last)),
        ("channels", (every, every, but_last), (every, every, but_first)),
    ):
        first, second = (centred[(every, *part)] for part in pair)
        count = n * int(np.logical_and(*(varies[part] for part in pair)).sum())
        products = first * second
        total = products.sum(dtype=np.float64)
        if count and _of_sum(abs(total), count, np.abs(products).max()) > _ERRORS:
            yield what, total / count
    if pixels < 2:
        return
    flat, pairs = centred.reshape(n, -1), pixels * (pixels - 1)
    squares = np.square(flat)
    squares -= squares.mean(axis=0)
    power = np.sqrt(np.square(squares).mean(dtype=np.float64) * flat.shape[1] / pixels)  # near 0 for coins
    for what, values in (
        ("all pairs of pixels", flat),
        ("the squares of pixels", squares / np.float32(max(power, 1e-3))),
    ):
        of_pairs = values.sum(axis=1, dtype=np.float64) ** 2 - np.square(values).sum(axis=1, dtype=np.float64)
        total = of_pairs.sum()
        if _of_sum(abs(total), 2 * pairs * n, np.abs(of_pairs).max()) > _ERRORS:
            yield what, total / n / pairs
    some = standard.reshape(n, -1)[:_COMPARED]
    m, powers = len(some), np.square(some)
    products = np.asarray(some @ some.T, np.float64) ** 2
    of_itself = powers.sum(axis=0, dtype=np.float64) ** 2 - np.square(powers).sum(axis=0, dtype=np.float64)
    total = (products.sum() - np.trace(products) - of_itself.sum()) / (m * (m - 1))
    if total > _UNRELATED * 2 * np.sqrt(pairs) / m:
        yield "pairs of pixels (root mean square)", np.sqrt(total / pairs)


def _of_mean(values: np.ndarray, harmless: float) -> float:
    """Standard errors by which the mean of values [n] is off 0, beyond what does no harm."""
    error = max(values.std(ddof=1) / np.sqrt(len(values)), 1e-30)
    return float(max(abs(values.mean()) - harmless, 0) / error)


def _of_sum(total: Any, variance: float, largest: Any) -> Any:
    """Standard errors that a sum is off 0: P(more than t of them) <= 2 exp(-t^2 / 2) (Bernstein 1924).

    Of independent values of this variance together, none above the largest.
    """
    total = np.maximum(total, 0)
    return total / np.sqrt(variance + largest * total / 3 + 1e-30)
