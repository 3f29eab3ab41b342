import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import feed_back


def brightest_pixel(images: jax.Array) -> jax.Array:
    """Calls an image by the place of its brightest pixel."""
    return 5 * images.reshape(len(images), -1)


def test_each_map_is_stretched_and_classified_by_its_own_network() -> None:
    maps = np.ma.masked_array(0.01 * np.eye(4).reshape(4, 2, 2, 1))
    maps[3] *= -1  # darkest, not brightest, at its own place
    answers = feed_back(brightest_pixel, maps)
    confidence = float(jax.nn.softmax(jnp.array([5.0, 0, 0, 0]))[0])
    assert [answer and answer.predicted for answer in answers] == [0, 1, 2, 0]
    assert answers[0] is not None
    assert answers[0].confidence == pytest.approx(confidence)


def test_a_masked_map_gets_no_answer() -> None:
    maps = np.ma.masked_array(np.eye(4).reshape(4, 2, 2, 1))
    maps[1] = np.ma.masked
    answers = feed_back(brightest_pixel, maps)
    assert [answer and answer.predicted for answer in answers] == [0, None, 2, 3]
    maps[:] = np.ma.masked
    assert feed_back(brightest_pixel, maps) == [None] * 4
