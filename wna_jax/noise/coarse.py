"""Noise of larger pixels: few numbers for a large image."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from wna_jax.noise.base import Noise
from wna_jax.runs.errors import InputError


def coarse(noise: Noise, factor: int) -> Noise:
    """A noise in larger pixels: drawn on a grid of [H / factor, W / factor, C], shown in squares of factor x factor.

    What is averaged is the draw, so maps live on the coarse grid, and noise that is white is white there: all errors
    and tests hold as they are. A pixel of a map is what a square of the image does as a whole: of a linear network, the
    sum of its template over the square. Networks for large photographs hardly answer to fine noise, which their first
    layers average out, and a map of few pixels takes few samples. Its name is that of the noise with "/factor".

    Args:
        noise: of the size of the network's images; one that exists in any size, such as `uniform`.
        factor: the side of a square, in pixels of the image; it divides height and width.

    Raises:
        InputError: a factor that does not divide the size, or a noise that exists in one size only.
    """
    height, width, _ = noise.shape
    if not isinstance(factor, int) or factor < 1 or height % factor or width % factor:
        both = [side for side in range(1, min(height, width) + 1) if height % side == width % side == 0]
        raise InputError(
            f"noise of {height}x{width} pixels in squares of {factor} pixels: the side must divide both, as do "
            f"{', '.join(map(str, both))}"
        )
    if noise.present is not None:
        raise InputError(f"{noise.name} noise is shown in a way of its own: make coarse noise of one that is not")
    drawn = noise.resized((height // factor, width // factor))
    return replace(drawn, name=f"{noise.name}/{factor}", draw=None, present=Partial(_in_squares, factor))


def _in_squares(factor: int, _: jax.Array, drawn: jax.Array) -> jax.Array:
    return jnp.repeat(jnp.repeat(drawn, factor, axis=0), factor, axis=1)
