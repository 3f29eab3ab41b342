"""What single units see: receptive fields of layers, spike-triggered averages and covariances of their units.

A unit of a convolutional layer sees a small window of the image, its receptive field. Noise is drawn in the size of
that window, and the loop averages it by the unit's activation: the spike-triggered average. Where a layer has no
padding, all positions of a feature map are windows of one noise field (`wna_jax.sampling`), so millions of samples cost
seconds. Chichilnisky 2001, Network 12:199; Schwartz, Pillow, Rust & Simoncelli 2006, Journal of Vision 6(4):13.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, stats

from wna_jax.errors import InputError
from wna_jax.maps import ClassificationImages
from wna_jax.moments import Moments
from wna_jax.noise import Noise
from wna_jax.reverse_correlation import Response
from wna_jax.units import Activations

_PROBES = 24
_LARGER = 48
FEWEST_SAMPLES = 20
"""Effective samples a pixel from which on eigenvalues are tested; below, blind units are not as Wishart matrices."""
_AVERAGE_ALPHA = 0.001
"""Of the test that a unit has an average at all."""


class ReceptiveField(NamedTuple):
    """The windows that the units of a layer see: unit (i, j) sees size pixels from start + (i, j) jump on."""

    size: tuple[int, int]
    """From the first to the last pixel; between them a dilated kernel leaves some out."""
    jump: tuple[int, int]
    """Pixels from the window of one unit to that of the next; 0 where there is one unit only."""
    start: tuple[int, int]
    """First row and column of unit (0, 0), negative where it reaches into padding."""
    units: tuple[int, int]
    """Positions of the feature map; (1, 1) for a layer without."""

    def padded(self, image_shape: tuple[int, ...]) -> bool:
        """Some windows reach over the image's edge: their units do not answer as those inside do."""
        ends = (s + (u - 1) * j + z for s, u, j, z in zip(self.start, self.units, self.jump, self.size, strict=True))
        return min(self.start) < 0 or any(end > length for end, length in zip(ends, image_shape, strict=False))

    def crop(self, position: tuple[int, int], image_shape: tuple[int, ...]) -> tuple[slice, slice]:
        """The pixels of an image that the unit at a position sees.

        Raises:
            InputError: no unit at that position.
        """
        if not all(0 <= p < u for p, u in zip(position, self.units, strict=True)):
            raise InputError(f"position {position}: expected one from (0, 0) to {tuple(u - 1 for u in self.units)}")
        first = [s + p * j for s, p, j in zip(self.start, position, self.jump, strict=True)]
        rows, columns = (
            slice(max(f, 0), min(f + s, length)) for f, s, length in zip(first, self.size, image_shape, strict=False)
        )
        return rows, columns


def receptive_field(activations: Activations, image_shape: tuple[int, int, int], seed: int = 0) -> ReceptiveField:
    """Finds out what the units of a layer see, by asking the network.

    Random images are changed in one row, or column, at a time: the units that answer otherwise see it. With all units
    of the layer and 24 images none is missed but in layers that hardly ever fire. Where fewer than two units see their
    whole windows inside the image, a larger image is asked about, by a multiple of 48 pixels, so that it meets strides
    and their padding as the image does.

    Raises:
        InputError: a layer whose activations have another form than images or lists of units, units whose windows are
            not at a regular distance, or no unit that answers to anything.
    """
    height, width, channels = image_shape
    shape = jax.eval_shape(activations, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)).shape
    if len(shape) not in (2, 4):
        raise InputError(
            f"the layer gives activations {shape[1:]} for an image: expected (rows, columns, units) or (units,), as "
            "convolutional and dense layers give them"
        )
    units = (shape[1], shape[2]) if len(shape) == 4 else (1, 1)
    lines = [_answering(activations, image_shape, axis, seed) for axis in (0, 1)]
    for axis, length in enumerate((height, width)):
        while units[axis] > 1 and not _enough_inside(lines[axis]) and len(lines[axis]) < length + 4 * _LARGER:
            longer = len(lines[axis]) + _LARGER
            larger = (longer, width) if axis == 0 else (height, longer)
            lines[axis] = _answering(activations, (*larger, channels), axis, seed)
    if not all(seen.any() for seen in lines):
        raise InputError("no unit of the layer answers to any image: it has no receptive field")
    size, jump, start = zip(*map(_windows, lines), strict=True)
    return ReceptiveField(size, jump, start, units)


def _answering(activations: Activations, image_shape: tuple[int, int, int], axis: int, seed: int) -> np.ndarray:
    """Which rows (axis 0) or columns (1) of an image each row (column) of units answers to, bool [lines, units]."""
    before, after = 3 * jax.random.normal(jax.random.key(seed), (2, _PROBES, *image_shape))
    length = image_shape[axis]
    changed = jnp.eye(length, dtype=bool).reshape((length, length, 1, 1) if axis == 0 else (length, 1, length, 1))

    def differs(before: jax.Array, after: jax.Array) -> jax.Array:
        images = jnp.broadcast_to(before, (length, *before.shape))
        return activations(jnp.where(changed, after[None], images)) != activations(images)

    seen = jax.jit(lambda before, after: jax.lax.map(lambda images: differs(*images), (before, after)))(before, after)
    answers = np.any(np.asarray(seen), axis=(0, -1))
    return answers[:, None] if answers.ndim == 1 else np.any(answers, axis=2 - axis)


def _spans(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first line that each unit sees, and the number of lines from there to the last."""
    first = seen.argmax(axis=0)
    return first, np.where(seen.any(axis=0), len(seen) - seen[::-1].argmax(axis=0) - first, 0)


def _enough_inside(seen: np.ndarray) -> bool:
    """Two units or more with the longest span see neither the first nor the last line: they see all of their window."""
    _, span = _spans(seen)
    return bool(np.count_nonzero((span == span.max()) & (span > 0) & ~seen[0] & ~seen[-1]) >= 2)


def _windows(seen: np.ndarray) -> tuple[int, int, int]:
    """From which of the image's lines [lines, units] each unit sees: size, jump and start."""
    first, span = _spans(seen)
    size = int(span.max())
    whole = np.flatnonzero(span == size)
    distances = set(np.diff(first[whole]) / np.diff(whole)) if len(whole) > 1 else {0.0}
    if len(distances) > 1:
        raise InputError(f"the layer's windows are {sorted(map(int, distances))} pixels apart: expected one distance")
    jump = int(distances.pop())
    return size, jump, int(first[whole[0]] - whole[0] * jump)


class View(NamedTuple):
    """How to show noise to the units of a layer, and which part of it each of them sees."""

    noise_shape: tuple[int, int, int]
    respond: Callable[[jax.Array], jax.Array]
    """Noise [n, *noise_shape] -> activations [n, units]; of larger noise [n, h, w, units], for `reverse_correlate`."""
    seen: tuple[slice, slice]
    """Rows and columns of the noise that a unit sees."""
    field: ReceptiveField

    def crop(self, averages: ClassificationImages) -> ClassificationImages:
        """What the units see of averages over all of the noise."""
        part = (slice(None), *self.seen)
        return replace(averages, images=averages.images[part], standard_error=averages.standard_error[part])


def units_of(activations: Activations, image_shape: tuple[int, int, int]) -> View:
    """How to show noise to the units of a layer.

    To layers without padding it is noise in the size of the receptive field, all of which a unit sees; to layers with
    padding noise in the size of the image, of which the unit in the middle of the feature map sees a part.
    """
    field = receptive_field(activations, image_shape)
    if not field.padded(image_shape):

        def window(images: jax.Array) -> jax.Array:
            answers = activations(images)
            return answers[:, 0, 0] if answers.ndim == 4 and answers.shape[1:3] == (1, 1) else answers

        return View((*field.size, image_shape[-1]), window, (slice(None), slice(None)), field)
    middle = field.units[0] // 2, field.units[1] // 2

    def in_the_middle(images: jax.Array) -> jax.Array:
        return activations(images)[:, middle[0], middle[1]]

    return View(image_shape, in_the_middle, field.crop(middle, image_shape), field)


def with_products(respond: Response, noise: Noise) -> Response:
    """A response that also gathers what spike-triggered covariances need, in one pass of `reverse_correlate`.

    Returns:
        Noise [n, H, W, C] -> weights "average" w [n, units] and "products" w x [n, units D], x the D = H W C pixels in
        deviations from the mean; so that `Moments.sum` of the latter is sum w x (image), [units D, H, W, C].

    Raises:
        InputError: noise that is not Gaussian and white. In other noise directions are not independent of each other,
            and a unit that only adds seems to have further features.
    """
    if not (noise.white and noise.gaussian) or noise.present is not None:
        raise InputError(
            f"{noise.name} noise: a spike-triggered covariance needs Gaussian noise of independent pixels: take matched"
        )
    mean, deviation = (
        np.broadcast_to(value, noise.shape).astype(np.float32) for value in (noise.mean, noise.deviation)
    )

    def weights(images: jax.Array) -> dict[str, jax.Array]:
        w = respond(images)
        x = ((images - mean[None]) / deviation[None]).reshape(len(images), -1)
        return {"average": w, "products": (w[:, :, None] * x[:, None, :]).reshape(len(images), -1)}

    return weights


class Covariance(NamedTuple):
    """The spike-triggered covariance of one unit, in units of the noise's variance, without the average's direction."""

    eigenvalues: np.ndarray
    """[D - 1], rising; 1 for a direction that does not matter. [D] where there is no average."""
    features: np.ndarray
    """[D - 1, H, W, C] or [D, H, W, C], of length 1, in the same order."""
    low: float
    """The smallest eigenvalue of mere noise, at 1 - alpha / 2 of such."""
    high: float
    """The largest, likewise."""
    excitatory: np.ndarray
    """Indices of significant features that raise the activation, the strongest first."""
    suppressive: np.ndarray
    """Of those that lower it."""
    effective_samples: float
    """(sum w)^2 / sum w^2."""


def spike_triggered_covariance(
    moments: Mapping[str, Moments], unit: int, noise: Noise, *, alpha: float = 0.05, nulls: int = 199, seed: int = 0
) -> Covariance:
    """Directions in which the noise that drives a unit varies more (or less) than the noise does.

    C = sum w x x^T / sum w, x in deviations from the noise's mean; the direction of the spike-triggered average, where
    that is more than noise (p < .001), is projected out, and the rest decomposed. Under the null, weights w independent
    of x, C is close to a Wishart matrix of n = (sum w)^2 / sum w^2 samples; the extreme eigenvalues are compared with
    those of simulated ones, the most extreme first (Schwartz et al. 2006; edges as Marchenko & Pastur 1967,
    (1 ± sqrt(D / n))^2, for many dimensions). The test errs in .03 to .08 of cases at .05 for rectified normal weights,
    also of units that fire in 1% of the samples, from n = 20 D on; weights with heavier tails need more.

    Args:
        moments: of a response `with_products`, from independent samples.
        unit: which.
        noise: the noise of these samples.
        alpha: error rate of the test for one unit.
        nulls: simulated matrices; their spectra make the band.
        seed: of these.

    Raises:
        InputError: a unit that does not exist, never fired or has less than 20 D effective samples, or noise of another
            size.
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
            f"a pixel, take {math.ceil(FEWEST_SAMPLES * size / effective)} times as many samples"
        )
    own = slice(unit * size, (unit + 1) * size)
    raw = products.sum[own].reshape(size, size) - np.outer(products.weight_sum[own], mean)
    covariance = raw / deviation / weight
    direction = ((averages.sum[unit].ravel() / weight - mean) / deviation)[:, None]
    # A basis of what is left without the average, if there is one. That of mere noise would take a part of the features
    # with it: it is largest in their directions.
    rest = np.eye(size)
    if effective * float(np.square(direction).sum()) > stats.chi2.isf(_AVERAGE_ALPHA, size):
        rest = np.linalg.qr(np.concatenate([direction, rest[:, : size - 1]], axis=1))[0][:, 1:]
    eigenvalues, vectors = np.linalg.eigh(rest.T @ covariance @ rest)
    features = (rest @ vectors).T.reshape(-1, *noise.shape)
    extremes = _null_extremes(rest.shape[1], effective, nulls, seed)
    low, high = np.quantile(extremes[0], alpha / 2), np.quantile(extremes[1], 1 - alpha / 2)
    inside = list(range(rest.shape[1]))
    suppressive, excitatory = [], []
    while inside:
        if eigenvalues[inside[-1]] > high and eigenvalues[inside[-1]] - 1 >= 1 - eigenvalues[inside[0]]:
            excitatory.append(inside.pop())
        elif eigenvalues[inside[0]] < low:
            suppressive.append(inside.pop(0))
        elif eigenvalues[inside[-1]] > high:
            excitatory.append(inside.pop())
        else:
            break
    return Covariance(
        eigenvalues, features, float(low), float(high), np.array(excitatory, int), np.array(suppressive, int), effective
    )


def _null_extremes(size: int, samples: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest eigenvalues of covariance matrices of that many Gaussian samples.

    A Wishart matrix has those of a tridiagonal one made of chi-squared numbers (Dumitriu & Edelman 2002, J. Math. Phys.
    43:5830), which cost D numbers and not D^2.
    """
    generator = np.random.default_rng(seed)
    ends = np.empty((2, count))
    for i in range(count):
        own = generator.chisquare(np.maximum(samples - np.arange(size), 1))
        shared = generator.chisquare(np.arange(size - 1, 0, -1))
        diagonal = (own + np.append(0, shared)) / samples
        beside = np.sqrt(own[:-1] * shared) / samples
        for end, index in enumerate((0, size - 1)):
            ends[end, i] = linalg.eigh_tridiagonal(diagonal, beside, True, "i", (index, index))[0]
    return ends[0], ends[1]
