"""Random keys that do not depend on how JAX is configured."""

import jax
from jax.typing import ArrayLike


def key_of(seed: ArrayLike) -> jax.Array:
    """The key of a seed, for the generator that every result is made with, whatever JAX's default is."""
    return jax.random.key(seed, impl="threefry2x32")
