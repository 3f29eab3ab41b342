import jax
import numpy as np
import pytest

from wna_jax import draw_samples, noise
from wna_jax.data import Dataset
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError

CASES = [
    noise.uniform((6, 5, 2)),
    noise.gaussian((6, 5, 2)),
    noise.gaussian((6, 5, 2), np.array([0.1, -2.0]), np.array([0.3, 4.0])),
]


@pytest.mark.parametrize("white", CASES, ids=["uniform", "gaussian", "by channel"])
def test_pixels_are_independent_and_have_the_mean_and_deviation_stated(white: Noise) -> None:
    n = 20_000
    samples = np.asarray(draw_samples(white, n), np.float64)
    assert samples.shape == (n, *white.shape)
    standard = ((samples - white.mean) / white.deviation).reshape(n, -1)
    pixels = standard.shape[1]
    assert np.abs(standard.mean(axis=0)).max() < 5 / np.sqrt(n)
    fourth = np.mean(standard**4)
    assert np.abs(standard.var(axis=0) - 1).max() < 5 * np.sqrt((fourth - 1) / n)
    correlation = standard.T @ standard / n
    assert np.abs(correlation[~np.eye(pixels, dtype=bool)]).max() < 5.5 / np.sqrt(n)


def test_the_distributions_are_what_their_names_say() -> None:
    uniform = np.asarray(draw_samples(noise.uniform((8, 8, 1)), 500)).ravel()
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert np.mean(uniform < 0.25) == pytest.approx(0.25, abs=0.012)
    gaussian = np.asarray(draw_samples(noise.gaussian((8, 8, 1), 0.5, 0.2), 500)).ravel()
    assert np.mean(np.abs(gaussian - 0.5) < 0.2) == pytest.approx(0.6827, abs=0.012)


def test_matched_noise_has_the_pixel_moments_of_the_training_images(digits: Dataset) -> None:
    white = noise.matched(digits)
    pixels = digits.train.images / 255
    assert white.mean == pytest.approx([pixels.mean()], rel=1e-5)
    assert white.deviation == pytest.approx([pixels.std()], rel=1e-5)
    assert white.shape == (28, 28, 1)


def test_a_sample_is_decided_by_seed_and_index_alone() -> None:
    white = noise.uniform((4, 4, 1))
    ten = draw_samples(white, 10, seed=3)
    np.testing.assert_array_equal(draw_samples(white, 4, seed=3, first=5), ten[5:9])
    assert not (draw_samples(white, 10, seed=4) == ten).any()


def test_samples_stay_distinct_past_the_32nd_bit() -> None:
    white = noise.uniform((4, 4, 1))
    across = draw_samples(white, 4, first=2**32 - 2)
    np.testing.assert_array_equal(across[2:], draw_samples(white, 2, first=2**32))
    assert not (across[2:] == draw_samples(white, 2)).any()
    assert not (draw_samples(white, 2, first=2**33) == draw_samples(white, 2, first=2**32)).any()


def test_noise_is_created_by_name(digits: Dataset) -> None:
    key = jax.random.key(0)
    for text, expected in [
        ("uniform", noise.uniform((28, 28, 1))),
        ("gaussian", noise.gaussian((28, 28, 1))),
        ("gaussian:0.3,0.1", noise.gaussian((28, 28, 1), 0.3, 0.1)),
        ("matched", noise.matched(digits)),
    ]:
        np.testing.assert_array_equal(noise.create(text, digits).sample(key), expected.sample(key))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unifrom", r"unknown noise 'unifrom' \(did you mean 'uniform'\?\): choose one of uniform, gaussian, binary"),
        ("uniform:1", "unknown noise 'uniform:1'"),
        ("gaussian:1", "expected gaussian:MEAN,DEVIATION, such as"),
        ("gaussian:a,b", "expected gaussian:MEAN,DEVIATION, such as"),
        ("gaussian:0.5,0", r"deviation is \[0.0\]: it must be above 0"),
        ("gaussian:nan,1", "mean is .*: expected a finite number"),
    ],
)
def test_wrong_input_is_named(digits: Dataset, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        noise.create(text, digits)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"noise of shape \(28, 28\): expected \(height, width, channels\)"):
        noise.uniform((28, 28))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="or one for each of 1 channels"):
        noise.gaussian((28, 28, 1), np.zeros(3))
