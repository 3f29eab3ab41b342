"""Noise of patterns, whose pixels depend on each other: stripes, and single blocks."""

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax import generator
from wna_jax.noise.base import Noise
from wna_jax.noise.white import image_shape

_BLOCK = 4  # pixels


def stripes(shape: tuple[int, int, int]) -> Noise:
    """Vertical stripes: one row of U[0, 1] values, the same in every row; each channel has its own.

    Mean 1/2, deviation 1/sqrt(12). A map of it is one row too: it says in which columns light speaks for a class.
    """
    height, width, channels = image_shape(shape)
    ones = np.ones(channels)

    def sample(key: jax.Array) -> jax.Array:
        return jnp.broadcast_to(generator.uniform(key, (1, width, channels)), (height, width, channels))

    return Noise("stripes", (height, width, channels), ones / 2, ones / np.sqrt(12), sample, white=False)


def blocks(shape: tuple[int, int, int], *, all_places: bool = True) -> Noise:
    """One white 4x4 block on black, at any place of a grid with the same probability p.

    A pixel is white with probability p: mean p, deviation sqrt(p (1 - p)). A block at the right or lower edge is cut
    where the image's size is no multiple of 4.

    Args:
        shape: (H, W, C).
        all_places: if False the grid's last row and column are never used, as in the authors' `randint(0, 6)`; the
            pixels there do not vary, and maps have no standard error there.
    """
    height, width, channels = image_shape(shape)
    whole = np.array([-(-height // _BLOCK), -(-width // _BLOCK)])
    used = whole if all_places else np.maximum(whole - 1, 1)
    row, column = (np.arange(size) // _BLOCK for size in (height, width))
    mean = ((row < used[0])[:, None, None] & (column < used[1])[:, None] & np.ones(channels, bool)) / used.prod()

    def sample(key: jax.Array) -> jax.Array:
        place = jnp.floor(generator.uniform(key, (2,)) * jnp.asarray(used, jnp.float32)).astype(jnp.int32)
        inside = (row == place[0])[:, None, None] & (column == place[1])[None, :, None]
        return jnp.broadcast_to(inside, (height, width, channels)).astype(jnp.float32)

    name = "blocks" if all_places else "blocks:authors"
    return Noise(name, (height, width, channels), mean, np.sqrt(mean * (1 - mean)), sample, white=False)
