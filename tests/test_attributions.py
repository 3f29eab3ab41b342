import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from wna_jax import noise, responses
from wna_jax.correlation import draw_samples, reverse_correlate
from wna_jax.correlation.fields import draw_and_present
from wna_jax.maps import classification_images, regression_images
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.studies import attributions, local

SHAPE = (6, 5, 2)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.standard_normal((2, *SHAPE)).astype(np.float32)
IMAGE, REFERENCE = RANDOM.uniform(size=(2, *SHAPE)).astype(np.float32)
EFFECT = (WEIGHTS * (IMAGE - REFERENCE)).sum(axis=-1)
"""Of replacing each pixel, for a linear network."""


def linear(images: Any) -> jax.Array:
    """Two responses that are linear in the pixels."""
    return jnp.einsum("nhwc,khwc->nk", images, WEIGHTS)


def quadratic(images: Any) -> jax.Array:
    """(w . x)^2: its gradient is 2 (w . x) w."""
    return jnp.square(linear(images))


def test_occlusion_of_a_linear_network_is_the_mean_effect_of_the_patches_on_a_pixel() -> None:
    size, padded = 3, np.pad(EFFECT, ((0, 0), (4, 4), (4, 4)))
    of_patch = np.array(
        [[[padded[k, i + 2 : i + 5, j + 2 : j + 5].sum() for j in range(7)] for i in range(8)] for k in (0, 1)]
    )
    expected = np.array(
        [[[of_patch[k, i : i + 3, j : j + 3].mean() for j in range(5)] for i in range(6)] for k in (0, 1)]
    )
    np.testing.assert_allclose(attributions.occlusion(linear, IMAGE, REFERENCE, size), expected, atol=1e-5)
    single = attributions.occlusion(linear, IMAGE, REFERENCE, 1)
    np.testing.assert_allclose(single, EFFECT, atol=1e-5)


def test_occlusion_takes_no_more_passes_than_it_is_given() -> None:
    asked = []

    def counted(images: jax.Array) -> jax.Array:
        jax.debug.callback(lambda values: asked.append(len(values)), images)
        return linear(images)

    attributions.occlusion(counted, IMAGE, REFERENCE, 3, num_passes=20)
    jax.effects_barrier()
    assert max(asked) == 16  # patches at a stride of 2; at a stride of 1 there are 8 x 7
    with pytest.raises(InputError, match=r"3 network passes .* at least 9, for patches of 3"):
        attributions.occlusion(linear, IMAGE, REFERENCE, 3, num_passes=3)


@pytest.mark.parametrize(("size", "cells", "keep"), [((28, 28, 1), 7, 0.5), ((20, 13, 3), 3, 0.3), ((6, 6, 1), 6, 0.7)])
def test_the_masks_of_rise_are_the_noise_that_they_declare(size: tuple[int, int, int], cells: int, keep: float) -> None:
    black = np.zeros(size, np.float32)
    masks = attributions.masks(black + 1, black, cells, keep)
    draws = np.asarray(
        compilation.jit(draw_and_present)(masks, jax.random.key(0), np.uint32(0), np.uint32(0), 20_000)[0]
    )
    assert draws.min() >= 0
    assert draws.max() <= 1 + 1e-6
    error = 6 * float(masks.deviation[0]) / np.sqrt(len(draws))
    np.testing.assert_allclose(draws.mean(axis=0), keep, atol=error)
    np.testing.assert_allclose(draws.std(axis=0) / masks.deviation, 1, atol=0.05)
    shown = draw_samples(masks, 5)
    assert shown.shape == (5, *size)  # of a white picture before a black one, the masks themselves
    np.testing.assert_array_equal(shown[..., 0], shown[..., -1])


def test_masks_that_are_none_are_refused() -> None:
    for cells, keep in ((0, 0.5), (7, 0.5), (2, 0.0), (2, 1.0)):
        with pytest.raises(InputError, match="expected from 1 to 6 cells"):
            attributions.masks(IMAGE, REFERENCE, cells, keep)


@pytest.mark.slow
def test_rise_of_a_linear_network_is_what_the_covariance_of_its_masks_says() -> None:
    """E[f(m x + (1 - m) x') m_p] / p = p f(x) + (1 - p) f(x') + sum_q effect_q cov(m_q, m_p) / p."""
    n, keep = 20_000, 0.5
    masks = attributions.masks(IMAGE, REFERENCE, 6, keep)  # cells of one pixel: independent pixels
    np.testing.assert_allclose(masks.deviation, 0.5)
    found = attributions.rise(linear, IMAGE, REFERENCE, n, cells=6, keep=keep, seed=1)
    ends = np.asarray(linear(np.stack([IMAGE, REFERENCE])), np.float64)
    expected = (keep * ends[0] + (1 - keep) * ends[1])[:, None, None] + EFFECT * (1 - keep)
    spread = np.sqrt((np.asarray(linear(np.asarray(draw_samples(masks, 2_000)))) ** 2).mean(axis=0) / keep)
    assert (np.abs(found - expected) < 5 * spread[:, None, None] / np.sqrt(n)).all()


def test_rise_is_a_classification_image_in_a_noise_of_masks() -> None:
    def graded(images: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(linear(images))

    masks = attributions.masks(IMAGE, REFERENCE, 3)
    moments = reverse_correlate(masks, graded, 3_000, seed=2)
    maps = classification_images(moments, masks)
    found = attributions.rise(graded, IMAGE, REFERENCE, 3_000, cells=3, seed=2)
    mean = moments.total_sum[..., 0] / 3_000
    shares = maps.share[:, None, None] / 0.5
    np.testing.assert_allclose(found, (maps.images[..., 0] + mean) * shares, rtol=1e-5)


def test_smooth_gradient_of_a_linear_network_is_its_weights_at_any_noise() -> None:
    np.testing.assert_allclose(attributions.smooth_gradient(linear, IMAGE, 0.7, 30), WEIGHTS, rtol=1e-5, atol=1e-5)


def test_smooth_gradient_of_a_quadratic_is_that_at_the_mean_draw() -> None:
    draws = np.asarray(draw_samples(noise.around(IMAGE, noise.gaussian(SHAPE, 0, 0.3)), 1_000, seed=3))
    at = np.asarray(linear(draws.mean(axis=0)[None]), np.float64)[0]
    found = attributions.smooth_gradient(quadratic, IMAGE, 0.3, 3_000, seed=3)
    np.testing.assert_allclose(found, 2 * at[:, None, None, None] * WEIGHTS, rtol=1e-4, atol=1e-4)


def test_integrated_gradients_are_complete() -> None:
    found = attributions.integrated_gradients(quadratic, IMAGE, REFERENCE, 30)
    ends = np.asarray(quadratic(np.stack([IMAGE, REFERENCE])), np.float64)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), ends[0] - ends[1], rtol=1e-4)
    middle = np.asarray(linear(((IMAGE + REFERENCE) / 2)[None]))[0]
    expected = (IMAGE - REFERENCE) * WEIGHTS * 2 * middle[:, None, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    network = attributions.integrated_gradients(lambda x: jax.nn.sigmoid(4 * linear(x)), IMAGE, REFERENCE, 3_000)
    ends = np.asarray(jax.nn.sigmoid(4 * linear(np.stack([IMAGE, REFERENCE]))), np.float64)
    np.testing.assert_allclose(network.sum(axis=(1, 2, 3)), ends[0] - ends[1], atol=1e-4)


def test_the_slopes_of_a_linear_network_say_what_its_pixels_contribute() -> None:
    np.testing.assert_allclose(attributions.removal_effect(WEIGHTS, IMAGE, REFERENCE), EFFECT, atol=1e-6)


def of_first(images: Any) -> jax.Array:
    return linear(images)[:, :1]


def test_no_order_has_a_lower_deletion_or_a_higher_insertion_score_than_the_effects_of_a_linear_network() -> None:
    image, reference = (np.where(np.arange(6)[:, None, None] < 1, given, IMAGE) for given in (IMAGE, REFERENCE))
    orders = np.array(list(itertools.permutations(range(5))), np.float64)  # of the first row; the rest is as it was
    importance = np.full((len(orders), 6, 5), -1.0)
    importance[:, 0] = orders
    importance = np.concatenate([EFFECT[:1], importance])
    importance[0, 1:] = -100
    curves = attributions.deletion_and_insertion(of_first, image, reference, importance, steps=30)
    scores = curves.scores
    assert scores["deletion"][0] <= scores["deletion"].min() + 1e-5
    assert scores["insertion"][0] >= scores["insertion"].max() - 1e-5
    ends = np.asarray(of_first(np.stack([image, reference])))[:, 0]
    np.testing.assert_allclose(curves.deletion[:, [0, -1]], [ends] * len(importance), rtol=1e-5)
    np.testing.assert_allclose(curves.insertion[:, [0, -1]], [ends[::-1]] * len(importance), rtol=1e-5)
    falling = ends[0] - np.cumsum([0, *np.sort(EFFECT[0, 0])[::-1]])
    np.testing.assert_allclose(curves.deletion[0, :6], falling, atol=1e-5)


def test_networks_that_differ_in_their_arrays_alone_share_the_programs() -> None:
    traced = []

    def scaled(weights: jax.Array, images: jax.Array) -> jax.Array:
        traced.append(1)
        return jnp.einsum("nhwc,khwc->nk", images, weights)

    methods: list[Callable] = [
        lambda f: attributions.smooth_gradient(f, IMAGE, 0.1, 30),
        lambda f: attributions.integrated_gradients(f, IMAGE, REFERENCE, 30),
        lambda f: attributions.occlusion(f, IMAGE, REFERENCE, 3),
    ]
    for method in methods:
        method(Partial(scaled, WEIGHTS))
        before = len(traced)
        method(Partial(scaled, 2 * WEIGHTS))
        assert len(traced) == before


def test_smooth_gradient_is_what_the_regression_map_of_a_response_around_an_image_tends_to() -> None:
    """Stein's identity: cov(f, z) / s^2 = E[grad f(x + z)]."""

    def graded(images: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(linear(images))

    stimulus, n = noise.around(IMAGE, noise.gaussian(SHAPE, 0, 0.4)), 20_000
    maps = regression_images(reverse_correlate(stimulus, graded, n, seed=5), stimulus)
    gradient = attributions.smooth_gradient(graded, IMAGE, 0.4, 3 * n, seed=6)
    z = (maps.images - gradient) / maps.standard_error
    assert abs(np.square(z).mean() - 1) < 6 * np.sqrt(2 / z.size)  # the gradient's own error is far smaller


@pytest.mark.slow
def test_gradients_of_a_black_box_that_knows_them_are_those_of_the_same_network_in_jax() -> None:
    shape, reference = (4, 5, 3), np.zeros((4, 5, 3), np.float32)
    weights = np.random.default_rng(1).standard_normal((60, 4)).astype(np.float32)
    image = np.random.default_rng(2).random(shape, np.float32)

    def logits(images: Any) -> Any:
        return jnp.square(jnp.asarray(images)).reshape(len(images), -1) @ weights

    def vjp(images: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        return 2 * images[None] * (cotangents @ weights.T).reshape(len(cotangents), *images.shape)

    def asked(images: np.ndarray) -> np.ndarray:
        assert isinstance(images, np.ndarray)
        return np.square(images).reshape(len(images), -1) @ weights

    box = responses.as_logits(responses.of_black_box(asked, vjp=vjp))
    assert attributions.knows_gradients(box)
    assert not attributions.knows_gradients(responses.as_logits(responses.of_black_box(asked)))
    ours, theirs = (local.contributions(of, image, 2, reference, 0.2, 300, seed=3) for of in (box, logits))
    assert list(ours) == list(theirs)
    for method in ours:
        np.testing.assert_allclose(ours[method], theirs[method], rtol=2e-4, atol=2e-5, err_msg=method)
