"""Noise made of patterns, whose pixels depend on each other: stripes and single blocks."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from wna_jax.noise import random
from wna_jax.noise.base import Noise, Shape
from wna_jax.noise.white import image_shape

_BLOCK = 4  # pixels


def stripes(shape: Shape) -> Noise:
    """Vertical stripes: one row of U[0, 1] values per channel, repeated in every row.

    Mean 1/2, deviation 1/sqrt(12). A map is one row too: it shows in which columns light is evidence for a class.
    """
    shape = image_shape(shape)
    ones = np.ones(shape[-1])
    return Noise("stripes", shape, ones / 2, ones / np.sqrt(12), Partial(_draw_stripes, shape), white=False)


def blocks(shape: Shape, *, all_places: bool = True) -> Noise:
    """One white 4x4 block on black, at each place of a grid with the same probability p.

    A pixel is white with probability p: mean p, deviation sqrt(p (1 - p)). Blocks at the right and lower edge are
    cropped if the image's size is not a multiple of 4. Without `all_places` the grid's last row and column are left
    out, as by `randint(0, 6)` in arXiv 1912.12106's code; pixels there do not vary, and maps have no standard error.
    """
    shape = height, width, channels = image_shape(shape)
    whole = np.array([-(-height // _BLOCK), -(-width // _BLOCK)])
    used = whole if all_places else np.maximum(whole - 1, 1)
    row, column = (np.arange(size) // _BLOCK for size in (height, width))
    mean = ((row < used[0])[:, None, None] & (column < used[1])[:, None] & np.ones(channels, bool)) / used.prod()
    name = "blocks" if all_places else "blocks:authors"
    sample = Partial(_draw_block, shape, used.astype(np.float32))
    return Noise(name, shape, mean, np.sqrt(mean * (1 - mean)), sample, white=False)


def _draw_stripes(shape: Shape, key: jax.Array) -> jax.Array:
    return jnp.broadcast_to(random.uniform(key, (1, *shape[1:])), shape)


def _draw_block(shape: Shape, used: jax.Array, key: jax.Array) -> jax.Array:
    place = jnp.floor(random.uniform(key, (2,)) * used).astype(jnp.int32)
    row, column = (jnp.arange(size, dtype=jnp.int32) // _BLOCK for size in shape[:2])
    inside = (row == place[0])[:, None, None] & (column == place[1])[None, :, None]
    return jnp.broadcast_to(inside, shape).astype(jnp.float32)
