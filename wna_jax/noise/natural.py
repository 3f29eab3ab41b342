"""Training images as noise: what a unit or a class responds to among natural images."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from wna_jax.noise.base import Noise, Shape, of_dependent_pixels
from wna_jax.runs.errors import InputError

if TYPE_CHECKING:
    from wna_jax.data import Dataset


def natural(dataset: "Dataset", size: tuple[int, int] | None = None) -> Noise:
    """Training images on the [0, 1] scale, all equally likely; or windows of `size` at random places in them.

    Neighbouring pixels of natural images are alike, so maps are blurred by the images' covariance:
    `maps.whitened_images` removes it.

    Raises:
        InputError: windows larger than the images.
    """
    height, width, channels = dataset.image_shape
    rows, columns = size or (height, width)
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise InputError(f"windows of {rows}x{columns} pixels in images of {height}x{width}: expected smaller ones")
    sample = Partial(_draw_window, jnp.asarray(dataset.train.images), (rows, columns, channels))
    return of_dependent_pixels("natural", (rows, columns, channels), sample)


def _draw_window(images: jax.Array, size: Shape, key: jax.Array) -> jax.Array:
    which, down, right = jax.random.split(key, 3)
    n = jax.random.randint(which, (), 0, len(images))
    top = jax.random.randint(down, (), 0, images.shape[1] - size[0] + 1)
    left = jax.random.randint(right, (), 0, images.shape[2] - size[1] + 1)
    window = jax.lax.dynamic_slice(images, (n, top, left, jnp.zeros_like(n)), (1, *size))[0]
    return window.astype(jnp.float32) / 255
