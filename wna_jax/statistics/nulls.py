"""z-maps as they are where there is nothing to see: what tests of neighbouring pixels compare a map with.

If the response does not depend on the image, the errors of a map's pixels are correlated as the pixels of the noise
are, and, where samples overlap, as the windows are. Null maps have the same correlation, at no network cost.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.correlation.fields import Overlap
from wna_jax.noise import Noise
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.runs.seeds import key_of

_KEY_OF_NULLS = 0x6E756C6C  # so that no sample of a run is among the draws
_PIXELS = 2**22
"""Of the draws, and of the null maps, that are held at once."""
_FEWEST, _MOST = 256, 2048
"""Draws of noise that null maps are made of."""


def null_z_maps(
    shape: Sequence[int], count: int, seed: int = 0, dependence: Overlap | Noise | None = None
) -> Iterator[np.ndarray]:
    """Yields `count` z-maps under the null hypothesis, for `permutation_test`, of shape (H, W, C), or (K, H, W, C).

    Without a dependence, pixels are independent N(0, 1): the distribution of maps from responses permuted over many
    samples of white noise. For overlapping windows of K responses, pixels a stride apart are correlated as
    `correlation.fields.overlap` estimates. In noise that is not white, a map is Z = sum_i g_i (x_i - mean) / s over 256
    to 2,048 draws x_i of it, with normal g_i of sum g_i^2 = 1: for given draws it is Gaussian with their covariance
    (the wild bootstrap; Wu 1986, Annals of Statistics 14:1261), in Gaussian noise exactly so for the noise's own. Maps
    of a set are independent of each other, which makes the maximum over a set slightly larger than that of real maps.

    Common mistakes: no dependence in noise that is not white; a class with so few samples of noise that is not Gaussian
    that its map is not Gaussian either: permute the responses instead.

    Raises:
        InputError: an overlap of another number of responses, or noise of another shape.
    """
    generator = np.random.default_rng(seed)
    if isinstance(dependence, Noise):
        if dependence.shape != tuple(shape[-3:]):
            raise InputError(f"null maps of shape {tuple(shape)} in noise {dependence.shape}: expected the same pixels")
        return _in_noise(dependence, generator, seed, shape, count)
    if dependence is None:
        return (generator.standard_normal(tuple(shape)) for _ in range(count))
    responses = len(dependence.correlation)
    if len(shape) != 4 or responses != shape[0]:
        given = f"null maps of shape {tuple(shape)} for an overlap of {responses} responses"
        raise InputError(f"{given}: expected ({responses}, height, width, channels)")
    roots = np.stack([_root(correlation) for correlation in dependence.correlation])
    return (_at_strides(generator, roots, dependence.stride, shape) for _ in range(count))


def _root(correlation: np.ndarray) -> np.ndarray:
    """A square root [a, b, a b] of the covariance of a x b blocks, from their correlation at each lag."""
    a, b = (np.array(correlation.shape) + 1) // 2
    i, j = np.arange(a), np.arange(b)
    lag_i, lag_j = i[:, None] - i + a - 1, j[:, None] - j + b - 1
    covariance = correlation[lag_i[:, None, :, None], lag_j[None, :, None, :]].reshape(a * b, a * b)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return (root / np.linalg.norm(root, axis=1, keepdims=True)).reshape(a, b, a * b)


def _at_strides(
    generator: np.random.Generator, roots: np.ndarray, stride: tuple[int, int], shape: Sequence[int]
) -> np.ndarray:
    k, a, b, _ = roots.shape
    white = generator.standard_normal((k, a * b, *stride, shape[-1]))
    maps = (roots.reshape(k, a * b, -1) @ white.reshape(k, a * b, -1)).reshape(k, a, b, *stride, shape[-1])
    return maps.swapaxes(2, 3).reshape(k, a * stride[0], b * stride[1], shape[-1])[:, : shape[1], : shape[2]]


def _in_noise(
    noise: Noise, generator: np.random.Generator, seed: int, shape: Sequence[int], count: int
) -> Iterator[np.ndarray]:
    """As many maps at a time as memory allows, and other draws for the next: their sampling error is not shared."""
    pixels, size = int(np.prod(noise.shape)), int(np.prod(shape))
    batch = max(1, min(_MOST, _PIXELS // pixels))
    draws = batch * -(-_FEWEST // batch)
    at_once = max(1, _PIXELS // size)
    for first in range(0, count, at_once):
        maps = min(at_once, count - first)
        weights = generator.standard_normal((maps * size // pixels, draws), np.float32)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        start = first // at_once * draws
        sums = (
            np.asarray(_weighted(noise, key_of(seed), np.arange(start + i, start + i + batch, dtype=np.uint32), some))
            for i, some in zip(range(0, draws, batch), np.split(weights, draws // batch, axis=1), strict=True)
        )
        yield from sum(sums, np.zeros((), np.float64)).reshape(maps, *shape)


@compilation.jit
def _weighted(noise: Noise, key: jax.Array, indices: jax.Array, weights: jax.Array) -> jax.Array:
    """Sums [maps, D] of draws in deviations from the mean, times the weights [maps, draws]; 0 where nothing varies."""
    key = jax.random.fold_in(key, _KEY_OF_NULLS)
    draws = jax.vmap(lambda i: noise.sample(jax.random.fold_in(key, i)))(indices)
    mean, deviation = (jnp.broadcast_to(value, (1, *noise.shape)) for value in (noise.mean, noise.deviation))
    varies = deviation > 0
    standard = jnp.where(varies, (draws - mean) / jnp.where(varies, deviation, 1), 0)
    return jnp.matmul(weights, standard.reshape(len(indices), -1), precision="highest")
