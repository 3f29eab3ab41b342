from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import special

from wna_jax import classification_images, noise, responses, reverse_correlate
from wna_jax.correlation.fields import draw_and_present
from wna_jax.networks import Network, models
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.studies import local

SHAPE = (5, 4, 1)
TEMPLATE = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
IMAGE = (0.5 + 0.1 * TEMPLATE / np.linalg.norm(TEMPLATE)).astype(np.float32)
OFFSET = float((TEMPLATE * 0.5).sum())
UNIT = noise.gaussian(SHAPE, 0, 1)


def observer(images: Any) -> jax.Array:
    """Two classes by the sign of a template's match, about that of a grey image: IMAGE is called 1."""
    match = jnp.einsum("nhwc,hwc->n", images, TEMPLATE) - OFFSET
    return jnp.stack([0 * match, match], axis=-1)


LENGTH = float(np.linalg.norm(TEMPLATE))


def test_noise_around_a_picture_shows_the_picture_in_the_noise_and_averages_the_noise() -> None:
    picture = np.random.default_rng(1).uniform(size=SHAPE).astype(np.float32)
    base = noise.gaussian(SHAPE, 0, 0.9)
    stimulus = noise.around(picture, base)
    keys = jax.random.key(0), np.uint32(0), np.uint32(0), 50
    drawn, shown = compilation.jit(draw_and_present)(stimulus, *keys)
    np.testing.assert_array_equal(drawn, compilation.jit(draw_and_present)(base, *keys)[0])
    np.testing.assert_array_equal(shown, picture + np.asarray(drawn))  # not clipped
    assert shown.min() < 0
    assert shown.max() > 1


def test_noise_that_is_shown_in_another_form_is_added_as_it_is_shown() -> None:
    def twice(key: jax.Array, drawn: jax.Array) -> jax.Array:
        return jnp.repeat(jnp.repeat(drawn, 2, axis=0), 2, axis=1)

    coarse = replace(noise.gaussian((3, 2, 1), 0, 0.1), draw=None, present=twice)
    picture = np.arange(24, dtype=np.float32).reshape(6, 4, 1)
    drawn, shown = compilation.jit(draw_and_present)(
        noise.around(picture, coarse), jax.random.key(0), np.uint32(0), np.uint32(0), 9
    )
    assert drawn.shape == (9, 3, 2, 1)
    np.testing.assert_array_equal(shown, picture + np.repeat(np.repeat(np.asarray(drawn), 2, axis=1), 2, axis=2))
    with pytest.raises(InputError, match=r"a picture of shape \(3, 2, 1\) in gaussian noise: expected .* \(6, 4, 1\)"):
        noise.around(np.zeros((3, 2, 1)), coarse)
    with pytest.raises(InputError, match="a picture that is not finite"):
        noise.around(np.full((6, 4, 1), np.nan), coarse)


def test_a_linear_observers_map_around_a_picture_is_its_template_with_the_gain_of_theory() -> None:
    """E[z | called 1] = s w / |w| phi(d) / Phi(d), d the distance of the picture from the boundary in deviations."""
    s, n = 0.2, 40_000
    stimulus = noise.around(IMAGE, noise.gaussian(SHAPE, 0, s))
    moments = reverse_correlate(stimulus, responses.of_classifier(observer, ["decision"]), n)["decision"]
    maps = classification_images(moments, stimulus)
    d = 0.1 / s
    share = special.ndtr(d)
    density = np.exp(-(d**2) / 2) / np.sqrt(2 * np.pi)
    assert abs(maps.share[1] - share) < 5 * np.sqrt(share * (1 - share) / n)
    for k, sign, of_answer in ((1, 1, share), (0, -1, 1 - share)):
        expected = sign * s * TEMPLATE / LENGTH * density / of_answer
        z = (maps.images[k] - expected) / maps.standard_error[k]
        assert np.abs(z).max() < 4.5
        assert np.square(z).mean() < 2.5  # theory, exactly: the mean square of 20 pixels is 1 +- .3


def test_the_threshold_contrast_is_where_theory_has_it() -> None:
    """P(called 1) = Phi(.1 / s): .75 at s = .1 / Phi^-1(.75)."""
    expected = 0.1 / special.ndtri(0.75)
    found = local.threshold_contrast(observer, IMAGE, UNIT, num_draws=20_000)
    assert found is not None
    assert found.low < expected < found.high
    assert found.low < found.at < found.high
    assert found.high - found.low < 0.2 * expected


@pytest.mark.slow  # 400 runs
def test_its_interval_holds_the_truth_as_often_as_it_says() -> None:
    expected, held, runs = 0.1 / special.ndtri(0.75), 0, 400
    for seed in range(runs):
        found = local.threshold_contrast(observer, IMAGE, UNIT, num_draws=100, seed=seed)
        held += found is not None and found.low <= expected <= found.high
    assert abs(held / runs - 0.95) < 5 * np.sqrt(0.05 * 0.95 / runs)


def test_an_answer_that_noise_never_changes_has_no_threshold() -> None:
    def stubborn(images: jax.Array) -> jax.Array:
        return jnp.stack([0 * images[:, 0, 0, 0], 0 * images[:, 0, 0, 0] + 1], axis=-1)

    assert local.threshold_contrast(stubborn, IMAGE, UNIT, num_draws=50) is None
    assert local.at_stake(stubborn, IMAGE, noise.around(IMAGE, UNIT)) == (1, 0)


def test_wrong_shares_are_said() -> None:
    with pytest.raises(InputError, match="share is 1: expected a number between 0 and 1"):
        local.threshold_contrast(observer, IMAGE, UNIT, 1.0)
    with pytest.raises(InputError, match="num_draws is 3: too few"):
        local.threshold_contrast(observer, IMAGE, UNIT, 0.1, num_draws=3)


def test_at_stake_are_the_answer_and_the_most_frequent_other_one_in_noise() -> None:
    def four(images: jax.Array) -> jax.Array:
        """Called 2; the runner-up is 0, but in noise it is 3."""
        first = images[:, 0, 0, 0]
        return jnp.stack([0 * first + 0.9, 0 * first - 5, 0 * first + 1, 10 * (first - 0.5)], axis=-1)

    grey = np.full(SHAPE, 0.5, np.float32)
    assert local.at_stake(four, grey, noise.around(grey, noise.gaussian(SHAPE, 0, 0.3))) == (2, 3)
    assert local.at_stake(four, grey, noise.around(grey, noise.gaussian(SHAPE, 0, 1e-6))) == (2, 0)


@pytest.mark.slow
def test_every_method_finds_what_the_pixels_of_a_linear_network_contribute() -> None:
    """Of the logit: exactly where the method is exact, else in the direction of the effects."""
    reference = np.full(SHAPE, 0.5, np.float32)
    effect = (TEMPLATE * (IMAGE - reference))[..., 0]
    found = local.contributions(observer, IMAGE, 1, reference, 0.3, 20_000)
    assert len(found) == 11
    for name in ("SmoothGrad, logit", "integrated gradients, logit"):
        np.testing.assert_allclose(found[name], effect, atol=1e-4)
    for name, own in found.items():
        if "RISE" not in name and "occlusion" not in name:  # which blur
            assert np.corrcoef(np.ravel(own), effect.ravel())[0, 1] > 0.95, name


@pytest.mark.slow
def test_noise_in_squares_finds_the_mean_slope_of_a_square() -> None:
    picture, reference = np.full((6, 4, 1), 0.5, np.float32), np.zeros((6, 4, 1), np.float32)
    weights = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)

    def of_weights(images: Any) -> jax.Array:
        match = jnp.einsum("nhw,hw->n", images[..., 0] - 0.5, weights)
        return jnp.stack([0 * match, match], axis=-1)

    found = local.contributions(of_weights, picture, 1, reference, 0.3, 20_000, factor=2)
    mean = weights.reshape(3, 2, 2, 2).mean(axis=(1, 3)).repeat(2, axis=0).repeat(2, axis=1)
    error = np.linalg.norm(weights) / np.sqrt(20_000) / 4 * 0.5
    np.testing.assert_allclose(found["classification image, logit"], 0.5 * mean, atol=5 * error)


@pytest.mark.slow
def test_a_decision_that_never_changes_has_no_map(random_network: Callable[..., Network]) -> None:
    network = random_network(models.create("logistic", (8, 8, 1), 3))
    image = np.full((8, 8, 1), 0.5, np.float32)
    k = int(local.answers(network, image[None])[0])
    found = local.contributions(network, image, k, 0 * image, 1e-3, 300)
    decision, *others = found.values()
    assert decision.mask.all()
    assert not any(np.ma.getmaskarray(own).any() for own in others)


def test_the_probability_of_a_class_is_one_response_for_all_classes() -> None:
    images = np.random.default_rng(3).uniform(size=(4, *SHAPE)).astype(np.float32)
    expected = jax.nn.softmax(observer(images))
    for k in (0, 1):
        of_k = local.probability_of(observer, k)
        assert isinstance(of_k, Partial)
        np.testing.assert_allclose(of_k(images)[:, 0], expected[:, k], rtol=1e-6)


@pytest.mark.slow
def test_scores_of_other_images_are_not_gone_on_from(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((3, 6, 6, 1)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(36, 3)).astype(np.float32)

    def network(x: jax.Array) -> jax.Array:
        return x.reshape(len(x), -1) @ weights

    def scored(some: np.ndarray, state: Path | None = tmp_path / "state") -> local.Comparison:
        return local.compare(network, some, np.zeros_like(some), 0.3, 120, steps=6, state_dir=state)

    scored(images[:2])
    np.testing.assert_array_equal(scored(images).deletion, scored(images, None).deletion)
    with pytest.raises(InputError, match="another image 0"):
        scored(images[::-1])


def test_too_few_passes_are_said_with_how_many_it_takes() -> None:
    image = np.zeros((8, 8, 1), np.float32)
    with pytest.raises(InputError, match="at least 9"):
        local.contributions(lambda x: x[:, 0, 0], image, 0, image, 0.3, 5)
