"""All tests run on the CPU backend, with JAX's strictest type and rank rules."""

import jax
import pytest

from wna_jax import data

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")
