"""z-maps as they are where there is nothing to see: what tests of neighbouring pixels compare a map with.

If the response does not depend on the image, the errors of a map's pixels are correlated as the pixels of the noise
are, and, where samples overlap, as the windows are. Null maps have the same correlation, at no network cost.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.correlation.fields import Overlap
from wna_jax.noise import Noise
from wna_jax.runs import compilation
from wna_jax.runs.accumulate import widened
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
    `correlation.fields.overlap` estimates. In noise that is not white, a map is Z = sum_i g_i (x_i - m) / s over 256 to
    2,048 draws x_i of mean m and deviation s, with normal g_i of sum g_i^2 = 1: N(0, 1) at every pixel, with the
    draws' correlations (the wild bootstrap; Wu 1986, Annals of Statistics 14:1261). A pixel that varies, but in none of
    these draws, is independent. Maps of a set are independent of each other, which makes the maximum over a set
    slightly larger than that of the maps of a run, and tests of a few maps slightly conservative.

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
    draws, at_once = batch * -(-_FEWEST // batch), max(1, _PIXELS // size)
    varies = np.broadcast_to(noise.deviation > 0, noise.shape).ravel()
    for first in range(0, count, at_once):
        sets, start = min(at_once, count - first), first // at_once * draws
        weights = generator.standard_normal((sets * size // pixels, draws), np.float32)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        parts: Any = [
            _weighted(
                noise, key_of(seed), np.arange(start + i, start + i + batch, dtype=np.uint32), weights[:, i : i + batch]
            )
            for i in range(0, draws, batch)
        ]
        maps, mean, power = (sum(map(widened, sums)) for sums in zip(*parts, strict=True))
        deviation = np.sqrt(np.maximum(power / draws - (mean / draws) ** 2, 0))
        maps -= weights.sum(axis=1, keepdims=True) * mean / draws
        seen = varies & (deviation > 0.01)  # of the declared one; below is the rounding of float32 sums
        maps[:, seen] /= deviation[seen]
        maps[:, ~seen] = generator.standard_normal((len(maps), np.count_nonzero(~seen))) * varies[~seen]
        yield from maps.reshape(sets, *shape)


@compilation.jit
def _weighted(noise: Noise, key: jax.Array, indices: jax.Array, weights: jax.Array) -> tuple[jax.Array, ...]:
    """Of standardised draws: their sums with weights [maps, draws], their sum, and that of their squares."""
    key = jax.random.fold_in(key, _KEY_OF_NULLS)
    draws = jax.vmap(lambda i: noise.sample(jax.random.fold_in(key, i)))(indices)
    mean, deviation = (jnp.broadcast_to(value, (1, *noise.shape)) for value in (noise.mean, noise.deviation))
    standard = ((draws - mean) / jnp.where(deviation > 0, deviation, 1)).reshape(len(indices), -1)
    return jnp.matmul(weights, standard, precision="highest"), standard.sum(axis=0), jnp.square(standard).sum(axis=0)
