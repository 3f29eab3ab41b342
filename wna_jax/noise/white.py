"""White noise: every pixel is drawn by itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax import generator
from wna_jax.errors import InputError
from wna_jax.noise.base import Noise

if TYPE_CHECKING:
    from wna_jax.data import Dataset


def uniform(shape: tuple[int, int, int]) -> Noise:
    """Independent pixels U[0, 1], the noise of arXiv 1912.12106: mean 1/2, deviation 1/sqrt(12)."""
    shape = image_shape(shape)
    channels = np.ones(shape[-1])
    return _white("uniform", shape, channels / 2, channels / np.sqrt(12), generator.uniform)


def gaussian(shape: tuple[int, int, int], mean: float | np.ndarray = 0.5, deviation: float | np.ndarray = 0.2) -> Noise:
    """Independent pixels N(mean, deviation^2), not clipped.

    Args:
        shape: (H, W, C) of one image.
        mean: of every pixel, or of each channel [C].
        deviation: likewise.

    Raises:
        InputError: a deviation that is not above 0, or a number of channels that does not fit.
    """
    shape = image_shape(shape)
    mean, deviation = _per_channel("mean", mean, shape), _per_channel("deviation", deviation, shape)
    if not (deviation > 0).all():
        raise InputError(f"the noise's deviation is {deviation.tolist()}: it must be above 0")
    offset, scale = mean.astype(np.float32), deviation.astype(np.float32)

    def draw(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
        return generator.normal(key, shape) * jnp.broadcast_to(scale, shape) + jnp.broadcast_to(offset, shape)

    return replace(_white("gaussian", shape, mean, deviation, draw), gaussian=True)


def matched(dataset: "Dataset") -> Noise:
    """Gaussian noise with the mean and the deviation of a data set's training pixels, channel by channel."""
    return replace(gaussian(dataset.image_shape, dataset.mean(), dataset.deviation()), name="matched")


def binary(shape: tuple[int, int, int]) -> Noise:
    """Independent pixels that are black or white with probability 1/2 each: mean and deviation 1/2."""
    shape = image_shape(shape)
    half = np.full(shape[-1], 0.5)

    def draw(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
        return (generator.uniform(key, shape) >= 0.5).astype(jnp.float32)

    return _white("binary", shape, half, half, draw)


def _white(
    name: str,
    shape: tuple[int, int, int],
    mean: np.ndarray,
    deviation: np.ndarray,
    draw: Callable[[jax.Array, tuple[int, int, int]], jax.Array],
) -> Noise:
    return Noise(name, shape, mean, deviation, lambda key: draw(key, shape), draw)


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape itself; an InputError if it is not (height, width, channels)."""
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"noise of shape {tuple(shape)}: expected (height, width, channels), such as (28, 28, 1)")
    height, width, channels = shape
    return height, width, channels


def _per_channel(what: str, value: float | np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    value = np.atleast_1d(np.asarray(value, np.float64))
    if value.shape not in ((1,), (shape[-1],)) or not np.isfinite(value).all():
        raise InputError(
            f"the noise's {what} is {value.tolist()}: expected a finite number, or one for each of {shape[-1]} channels"
        )
    return np.broadcast_to(value, (shape[-1],))
