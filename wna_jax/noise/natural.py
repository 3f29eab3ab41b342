"""The images themselves as noise: what a unit or a class answers to among pictures of the world."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.errors import InputError
from wna_jax.noise.base import Noise, pixel_moments

if TYPE_CHECKING:
    from wna_jax.data import Dataset


def natural(dataset: "Dataset", size: tuple[int, int] | None = None) -> Noise:
    """Training images on the [0, 1] scale, each as likely as any other; or windows of `size` at random places in them.

    Mean and deviation of every pixel are from `pixel_moments`. Neighbouring pixels are alike in pictures, so that maps
    are smeared by the images' covariance: `maps.whitened_images` takes it out.

    Raises:
        InputError: windows larger than the images.
    """
    height, width, channels = dataset.image_shape
    rows, columns = size or (height, width)
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise InputError(f"windows of {rows}x{columns} pixels in images of {height}x{width}: expected smaller ones")
    images = np.asarray(dataset.train.images)

    def sample(key: jax.Array) -> jax.Array:
        which, down, right = jax.random.split(key, 3)
        n = jax.random.randint(which, (), 0, len(images))
        top = jax.random.randint(down, (), 0, height - rows + 1)
        left = jax.random.randint(right, (), 0, width - columns + 1)
        channel = jnp.zeros_like(n)
        window = jax.lax.dynamic_slice(jnp.asarray(images), (n, top, left, channel), (1, rows, columns, channels))[0]
        return window.astype(jnp.float32) / 255

    return Noise("natural", (rows, columns, channels), *pixel_moments(sample), sample, white=False)
