import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from wna_jax.noise import random


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_published_words(key: tuple, counter: tuple, words: tuple) -> None:
    """The known answers of Random123, the authors' library."""
    assert tuple(int(word) for word in random.threefry(*(jnp.uint32(word) for word in (*key, *counter)))) == words


@pytest.mark.parametrize(("draw", "distribution"), [(random.uniform, stats.uniform), (random.normal, stats.norm)])
def test_numbers_are_distributed_as_they_should_be(draw, distribution) -> None:  # type: ignore[no-untyped-def]
    numbers = np.asarray(draw(jax.random.key(1), (1_000_001,)), np.float64)
    assert np.isfinite(numbers).all()
    assert stats.kstest(numbers, distribution.cdf).pvalue > 0.01
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 4e-3
    assert abs(np.corrcoef(numbers[:500_000], numbers[500_001:])[0, 1]) < 6e-3  # the two words of a block
    assert abs(stats.skew(numbers)) < 4 * np.sqrt(6 / 1e6)


def test_numbers_depend_on_the_key_alone_also_under_vmap() -> None:
    keys = jax.random.split(jax.random.key(0), 5)
    together = jax.vmap(lambda key: random.normal(key, (3, 5)))(keys)
    for key, numbers in zip(keys, together, strict=True):
        np.testing.assert_array_equal(random.normal(key, (3, 5)), numbers)
    assert len(np.unique(together)) == 75


def test_extremes_are_finite_and_symmetric() -> None:
    """The ends of the 2^23 levels of the uniform give +-5.3 deviations."""
    low, high = np.float32(0), np.float32(1 - 2**-23)
    ends = np.sqrt(2) * jax.lax.erf_inv(2 * jnp.array([low, high]) - np.float32(1 - 2**-23))
    assert np.isfinite(ends).all()
    assert ends[0] == -ends[1]
    assert 5 < ends[1] < 5.6
