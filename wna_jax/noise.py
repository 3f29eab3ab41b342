"""Noise distributions: pure functions from a random key to one image, with mean and deviation of its pixels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax import generator
from wna_jax.errors import InputError, unknown_name

if TYPE_CHECKING:
    from wna_jax.data import Dataset

NAMES = ("uniform", "gaussian", "matched")


@dataclass(frozen=True, eq=False)
class Noise:
    """A distribution over images. What is drawn is averaged, and as a rule also what the network is shown."""

    name: str
    shape: tuple[int, int, int]
    """(H, W, C) of what is drawn."""
    mean: np.ndarray
    """Expected value of each channel [C] or of every pixel [H, W, C], in pixel intensity (black 0, white 1)."""
    deviation: np.ndarray
    """Standard deviation, likewise."""
    sample: Callable[[jax.Array], jax.Array]
    """Random key -> one float32 image [H, W, C]."""
    draw: Callable[[jax.Array, tuple[int, int, int]], jax.Array] | None = None
    """Random key and shape -> one image of any size; None for noise that exists in one size alone."""
    white: bool = True
    """Every pixel is independent of every other."""
    present: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    """Random key and one draw -> the image that the network is shown, where this is not the draw itself: a picture in
    the noise, or a code's decoding. The key is the draw's; split off what it shall not share with it."""

    def resized(self, size: tuple[int, int]) -> "Noise":
        """The same distribution over images of another height and width."""
        draw = self.draw
        if draw is None:
            raise InputError(
                f"{self.name} noise exists in the size of one image alone: {self.shape[:2]}, asked for {size}"
            )
        shape = (*size, self.shape[2])
        return replace(self, shape=shape, sample=lambda key: draw(key, shape))


def uniform(shape: tuple[int, int, int]) -> Noise:
    """Independent pixels U[0, 1], the noise of arXiv 1912.12106: mean 1/2, deviation 1/sqrt(12)."""
    shape = _image_shape(shape)
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
    shape = _image_shape(shape)
    mean, deviation = _per_channel("mean", mean, shape), _per_channel("deviation", deviation, shape)
    if not (deviation > 0).all():
        raise InputError(f"the noise's deviation is {deviation.tolist()}: it must be above 0")
    offset, scale = mean.astype(np.float32), deviation.astype(np.float32)

    def draw(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
        return generator.normal(key, shape) * jnp.broadcast_to(scale, shape) + jnp.broadcast_to(offset, shape)

    return _white("gaussian", shape, mean, deviation, draw)


def matched(dataset: "Dataset") -> Noise:
    """Gaussian noise with the mean and the deviation of a data set's training pixels, channel by channel."""
    return replace(gaussian(dataset.image_shape, dataset.mean(), dataset.deviation()), name="matched")


def create(text: str, dataset: "Dataset") -> Noise:
    """Builds the noise that a text names, in the shape of a data set's images.

    Args:
        text: "uniform", "matched", "gaussian" or "gaussian:MEAN,DEVIATION" (in [0, 1] pixel units).
        dataset: gives the image shape, and the mean and deviation of "matched".

    Raises:
        InputError: no such noise, or numbers that cannot be read.
    """
    name, _, numbers = text.partition(":")
    if name == "gaussian" and numbers:
        try:
            mean, deviation = (float(number) for number in numbers.split(","))
        except ValueError:
            raise InputError(f"noise {text!r}: expected gaussian:MEAN,DEVIATION, such as gaussian:0.5,0.2") from None
        return gaussian(dataset.image_shape, mean, deviation)
    if text == "matched":
        return matched(dataset)
    if text not in ("uniform", "gaussian"):
        raise unknown_name("noise", text, (*NAMES, "gaussian:MEAN,DEVIATION"))
    return (uniform if text == "uniform" else gaussian)(dataset.image_shape)


def _white(
    name: str,
    shape: tuple[int, int, int],
    mean: np.ndarray,
    deviation: np.ndarray,
    draw: Callable[[jax.Array, tuple[int, int, int]], jax.Array],
) -> Noise:
    return Noise(name, shape, mean, deviation, lambda key: draw(key, shape), draw)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
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
