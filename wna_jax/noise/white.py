"""White noise: all pixels are independent."""

from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from wna_jax.noise import random
from wna_jax.noise.base import Noise, Shape, of_any_size
from wna_jax.runs.errors import InputError

if TYPE_CHECKING:
    from wna_jax.data import Dataset


def uniform(shape: Shape) -> Noise:
    """Independent pixels U[0, 1], the noise of arXiv 1912.12106: mean 1/2, deviation 1/sqrt(12)."""
    shape = image_shape(shape)
    channels = np.ones(shape[-1])
    return of_any_size("uniform", shape, channels / 2, channels / np.sqrt(12), random.uniform)


def gaussian(shape: Shape, mean: float | np.ndarray = 0.5, deviation: float | np.ndarray = 0.2) -> Noise:
    """Independent pixels N(mean, deviation^2), not clipped; both of all pixels, or of each channel [C].

    Raises:
        InputError: a deviation that is not above 0, or a number of channels that does not fit.
    """
    shape = image_shape(shape)
    mean, deviation = per_channel("mean", mean, shape), per_channel("deviation", deviation, shape)
    if not (deviation > 0).all():
        raise InputError(f"the noise's deviation is {deviation.tolist()}: it must be above 0")
    draw = Partial(_draw_gaussian, mean.astype(np.float32), deviation.astype(np.float32))
    return of_any_size("gaussian", shape, mean, deviation, draw, gaussian=True)


def matched(dataset: "Dataset") -> Noise:
    """Gaussian noise with the mean and deviation of a data set's training pixels, channel by channel."""
    return replace(gaussian(dataset.image_shape, dataset.mean(), dataset.deviation()), name="matched")


def binary(shape: Shape) -> Noise:
    """Independent pixels, black or white with probability 1/2 each: mean and deviation 1/2."""
    shape = image_shape(shape)
    half = np.full(shape[-1], 0.5)
    return of_any_size("binary", shape, half, half, _draw_binary)


def image_shape(shape: tuple[int, ...]) -> Shape:
    """The shape itself; an InputError if it is not (height, width, channels)."""
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"noise of shape {tuple(shape)}: expected (height, width, channels), such as (28, 28, 1)")
    height, width, channels = shape
    return height, width, channels


def per_channel(what: str, value: float | np.ndarray, shape: Shape) -> np.ndarray:
    """One number for each channel [C], from one for all or one for each; an InputError if it is neither."""
    value = np.atleast_1d(np.asarray(value, np.float64))
    if value.shape not in ((1,), (shape[-1],)) or not np.isfinite(value).all():
        wanted = f"a finite number, or one for each of {shape[-1]} channels"
        raise InputError(f"the noise's {what} is {value.tolist()}: expected {wanted}")
    return np.broadcast_to(value, (shape[-1],))


def _draw_gaussian(mean: jax.Array, deviation: jax.Array, key: jax.Array, shape: Shape) -> jax.Array:
    return random.normal(key, shape) * jnp.broadcast_to(deviation, shape) + jnp.broadcast_to(mean, shape)


def _draw_binary(key: jax.Array, shape: Shape) -> jax.Array:
    return (random.uniform(key, shape) >= 0.5).astype(jnp.float32)
