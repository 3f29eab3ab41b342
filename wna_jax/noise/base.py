"""The type of a noise, and estimates of its moments where no formula gives them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial, register_dataclass

from wna_jax.runs import compilation
from wna_jax.runs.accumulate import sum_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.seeds import key_of

Shape = tuple[int, int, int]
"""(H, W, C) of one image."""
Sampler = Callable[[jax.Array], jax.Array]
"""Random key -> one float32 image [H, W, C]."""
Draw = Callable[[jax.Array, Shape], jax.Array]
"""Random key and shape -> one float32 image of that shape."""

_DRAWS = 65_536
_BATCH = 512
_KEY_OF_ESTIMATES = 0x6D6F6D  # so that no sample of a run is among the draws of an estimate
_STATIC = {"static": True}


@register_dataclass
@dataclass(frozen=True, eq=False)
class Noise:
    """A distribution over images as a value: its arrays are the leaves of a pytree, so `jit` takes it as an argument.

    Mean and standard deviation are of each channel [C] or of each pixel [H, W, C], in pixel intensity (black 0, white
    1). `sample` draws an image of `shape`, `draw` one of any size (None for noise that exists in one size only).
    `white`: all pixels are independent; `gaussian`: all are normal. What is said here is compared with draws before a
    run (`noise.checks`): all errors and tests of maps rest on it.

    Draws are averaged, and the network is shown the draws themselves unless there is a `present`: random key and one
    draw -> the image that the network is shown, such as a picture in the noise, or a decoded code. The key is that of
    the draw: split it for what must be independent of the draw.
    """

    name: str = field(metadata=_STATIC)
    shape: Shape = field(metadata=_STATIC)
    mean: np.ndarray
    deviation: np.ndarray
    sample: Sampler
    draw: Draw | None = None
    white: bool = field(kw_only=True, metadata=_STATIC)
    gaussian: bool = field(default=False, metadata=_STATIC)
    present: Callable[[jax.Array, jax.Array], jax.Array] | None = None

    def __repr__(self) -> str:
        """One line."""
        known = isinstance(self.mean, np.ndarray) and isinstance(self.deviation, np.ndarray)  # within jit they are not
        numbers = f", mean {self.mean.mean():.3g}, deviation {self.deviation.mean():.3g}" if known else ""
        kind = f"{'white' if self.white else 'not white'}{', gaussian' if self.gaussian else ''}"
        return f"<Noise {self.name!r} of {'x'.join(map(str, self.shape))} pixels{numbers}, {kind}>"

    def resized(self, size: tuple[int, int]) -> "Noise":
        """The same distribution over images of another height and width; an InputError if it has one size only."""
        if self.draw is None:
            raise InputError(f"{self.name} noise exists only in the size {self.shape[:2]}, asked for {size}")
        shape = (*size, self.shape[2])
        return replace(self, shape=shape, sample=Partial(_at_size, self.draw, shape))

    @property
    def shown_shape(self) -> Shape:
        """(H, W, C) of the images that the network is shown."""
        if (present := self.present) is None:
            return self.shape
        drawn = jax.ShapeDtypeStruct(self.shape, jnp.float32)
        height, width, channels = jax.eval_shape(lambda drawn: present(key_of(0), drawn), drawn).shape
        return height, width, channels

    def shown(self, images_nhwc: np.ndarray) -> np.ndarray:
        """Images of the noise's shape, such as maps, as the network would be shown draws like them (of a fixed key)."""
        if self.present is None:
            return images_nhwc
        keys = jax.random.split(key_of(0), len(images_nhwc))
        return np.asarray(jax.vmap(self.present)(keys, jnp.asarray(images_nhwc)))


def of_any_size(
    name: str, shape: Shape, mean: np.ndarray, deviation: np.ndarray, draw: Draw, gaussian: bool = False
) -> Noise:
    """White noise from a function of key and shape."""
    return Noise(name, shape, mean, deviation, Partial(_at_size, draw, shape), draw, white=True, gaussian=gaussian)


def _at_size(draw: Draw, shape: Shape, key: jax.Array) -> jax.Array:
    return draw(key, shape)


def of_dependent_pixels(name: str, shape: Shape, sample: Sampler) -> Noise:
    """Noise from its draws, for one that no formula gives mean and standard deviation of each pixel [H, W, C] for.

    From 65,536 draws the standard error of the mean is .4% of the deviation. That of the deviation is
    sqrt((kurtosis - 1) / 4 / draws) of it, .3% for normal pixels; all standard errors of maps inherit this error.
    """
    shift, (total, squares) = _sums_over_draws(sample, _sum_and_squares, _DRAWS)
    mean = total / _DRAWS
    deviation = np.sqrt(np.maximum(squares / _DRAWS - mean**2, 0))
    return Noise(name, shape, shift + mean, deviation, sample, white=False)


def covariance(noise: Noise, num_draws: int = _DRAWS) -> np.ndarray:
    """Covariance [D, D] of the D = H W C values of a draw, in C order.

    Exact for white noise, and where `noise.sample` has a method `covariance`, as that of filtered noise; else from
    draws. With n draws the standard error of an entry is about sqrt((C_ij^2 + C_ii C_jj) / n).
    """
    if noise.white:
        return np.diag(np.ravel(np.broadcast_to(noise.deviation, noise.shape)) ** 2)
    if known := getattr(noise.sample, "covariance", None):
        return known()
    _, (total, products) = _sums_over_draws(noise.sample, _sum_and_products, num_draws)
    return products / num_draws - np.outer(total, total) / num_draws**2


_Sums = tuple[jax.Array, jax.Array]


def _sum_and_squares(images: jax.Array) -> _Sums:
    return images.sum(axis=0), jnp.square(images).sum(axis=0)


def _sum_and_products(images: jax.Array) -> _Sums:
    flat = images.reshape(len(images), -1)
    return images.sum(axis=0), jnp.matmul(flat.T, flat, precision="highest")


def _sums_over_draws(
    sample: Sampler, sums: Callable[[jax.Array], _Sums], num_draws: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Float64 sums over draws minus the mean of the first ones, and that mean: sums of small numbers are precise."""
    indices = np.arange(num_draws, dtype=np.int32)
    first = indices[:_BATCH]

    def about(shift: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return sum_over(lambda batch: _sums_of_draws(sample, sums, shift, batch), (indices,), _BATCH)

    shape = jax.eval_shape(lambda key: sample(key), key_of(0)).shape
    shift = np.asarray(about(np.zeros(shape, np.float32), first)[0] / len(first), np.float32)
    return np.asarray(shift, np.float64), about(shift, indices)


@compilation.jit
def _sums_of_draws(sample: Sampler, sums: Callable[[jax.Array], _Sums], shift: jax.Array, indices: jax.Array) -> _Sums:
    key = jax.random.fold_in(key_of(0), _KEY_OF_ESTIMATES)
    draws = jax.vmap(lambda i: sample(jax.random.fold_in(key, i)))(indices)
    return sums(draws - shift[None])
