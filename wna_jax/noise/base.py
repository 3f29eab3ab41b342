"""What a noise is, and its moments where no formula gives them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.errors import InputError

_DRAWS = 65_536
_BATCH = 512
_KEY_OF_ESTIMATES = 0x6D6F6D  # no draw of a run is among those that the moments come from


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
    gaussian: bool = False
    """Every pixel is normal."""
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


class PixelMoments(NamedTuple):
    """Of every pixel by itself, estimated."""

    mean: np.ndarray
    """[H, W, C]."""
    deviation: np.ndarray
    """[H, W, C]."""


def pixel_moments(sample: Callable[[jax.Array], jax.Array], num_draws: int = _DRAWS) -> PixelMoments:
    """Mean and deviation of every pixel [H, W, C] of a noise for which no formula gives them, from draws of its own.

    With the default 65,536 draws the mean's standard error is .4% of the deviation. The deviation's own is
    sqrt((kurtosis - 1) / 4 / draws) of it: .3% for normal pixels, and so is that of all standard errors of maps.
    """

    def sums(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        return images.sum(axis=0), jnp.square(images).sum(axis=0)

    shift, count, (total, squares) = _over_draws(sample, sums, num_draws)
    mean = total / count
    return PixelMoments(shift + mean, np.sqrt(np.maximum(squares / count - mean**2, 0)))


def covariance(noise: Noise, num_draws: int = _DRAWS) -> np.ndarray:
    """Covariance [D, D] of the D = H W C values of a draw, in C order: exact for white noise, else from draws.

    Over n draws an entry's standard error is about sqrt((C_ij^2 + C_ii C_jj) / n).
    """
    if noise.white:
        return np.diag(np.ravel(np.broadcast_to(noise.deviation, noise.shape)) ** 2)

    def sums(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        flat = images.reshape(len(images), -1)
        return flat.sum(axis=0), jnp.matmul(flat.T, flat, precision="highest")

    _, count, (total, products) = _over_draws(noise.sample, sums, num_draws)
    return products / count - np.outer(total, total) / count**2


def _over_draws(
    sample: Callable[[jax.Array], jax.Array],
    sums: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    num_draws: int,
) -> tuple[np.ndarray, int, list[np.ndarray]]:
    """Float64 sums over draws, of pixels minus the mean of the first batch (which is returned), for their precision."""
    key = jax.random.fold_in(jax.random.key(0), _KEY_OF_ESTIMATES)

    @jax.jit
    def draws(index: jax.Array) -> jax.Array:
        return jax.vmap(lambda i: sample(jax.random.fold_in(key, i)))(index * _BATCH + jnp.arange(_BATCH))

    shift = draws(np.int32(0)).mean(axis=0)
    of_batch = jax.jit(lambda index: sums(draws(index) - shift[None]))
    batches = -(-num_draws // _BATCH)
    total: list[np.ndarray] = []
    for index in range(batches):
        parts = [np.asarray(part, np.float64) for part in of_batch(np.int32(index))]
        total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
    return np.asarray(shift, np.float64), batches * _BATCH, total
