from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from wna_jax import data, noise
from wna_jax.correlation.fields import draw_and_present
from wna_jax.correlation.loop import reverse_correlate
from wna_jax.networks import augmentation
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.studies import interventions

Network = Callable[[jax.Array], jax.Array]


def brightness(images: jax.Array) -> jax.Array:
    """Class 1 for images whose mean is above one half."""
    mean = images.mean(axis=(1, 2, 3))
    return jnp.stack([1 - mean, mean], axis=-1)


def test_hits_count_the_wanted_answers_at_each_strength() -> None:
    images = np.linspace(0, 1, 1201, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4, 1), np.float32)
    wanted = np.ones(1201, np.int32)
    hits = interventions.hits(brightness, lambda x, g: x + g, [-2, 0, 0.25, 2], images, wanted)
    np.testing.assert_array_equal(hits, [0, 600, 900, 1201])
    np.testing.assert_array_equal(
        interventions.hits(brightness, interventions.unchanged, [0], images, 0 * wanted), [601]
    )
    assert interventions.accuracy(brightness, images, wanted) == 600 / 1201
    by_two = interventions.hits(brightness, lambda x, g: x + g[0] - g[1], [(0, 2), (0.5, 0.25)], images, wanted)
    np.testing.assert_array_equal(by_two, [0, 900])


@pytest.mark.slow
def test_a_signal_is_shown_in_the_noise_and_the_noise_alone_is_averaged_beside_it() -> None:
    signals = np.random.default_rng(0).uniform(size=(5, 6, 6, 1)).astype(np.float32)
    background = noise.gaussian((6, 6, 1), 0.4, 0.2)
    stimulus = interventions.embedded(background, signals, 0.3)
    drawn, shown = compilation.jit(draw_and_present)(stimulus, jax.random.key(0), np.uint32(0), np.uint32(0), 64)
    np.testing.assert_array_equal(shown, drawn[..., 1:])
    used = (shown - 0.7 * drawn[..., :1]) / 0.3
    distance = np.abs(np.asarray(used)[:, None] - signals[None]).max(axis=(2, 3, 4))
    assert (distance.min(axis=1) < 1e-5).all()
    assert set(distance.argmin(axis=1)) == set(range(5))

    n = 10_000
    moments = reverse_correlate(stimulus, lambda images: jnp.ones((len(images), 1)), n, batch_size=4_000)
    mean, square = moments.total_sum / n, moments.total_square_sum / n
    np.testing.assert_allclose(mean, stimulus.mean, atol=5 * 0.2 / np.sqrt(n))
    np.testing.assert_allclose(np.sqrt(square - mean**2), stimulus.deviation, rtol=0.05)


@pytest.mark.parametrize("weight", [-0.1, 1.1, np.nan])
def test_a_signal_weight_outside_0_to_1_is_refused(weight: float) -> None:
    with pytest.raises(InputError, match="expected a number from 0"):
        interventions.embedded(noise.uniform((4, 4, 1)), np.zeros((1, 4, 4, 1)), weight)


def test_mixes_are_the_pattern_or_the_image_at_their_ends() -> None:
    images = jax.random.uniform(jax.random.key(0), (3, 4, 4, 1))
    pattern = jax.random.uniform(jax.random.key(1), (4, 4, 1))
    for mix in interventions.MIXES.values():
        np.testing.assert_array_equal(mix(images, pattern, jnp.float32(0)), images)
        mixed = mix(images, pattern, jnp.float32(0.9))
        assert 0 <= mixed.min() <= mixed.max() <= 1
    whole = interventions.blend(images, pattern, jnp.float32(1))
    np.testing.assert_array_equal(whole, jnp.broadcast_to(pattern, whole.shape))
    np.testing.assert_allclose(
        interventions.add(images / 2, pattern / 2, jnp.float32(0.9)), images / 2 + 0.45 * pattern[None], rtol=1e-6
    )
    np.testing.assert_array_equal(interventions.multiply(0 * images, pattern, jnp.float32(0.9)), 0 * images)
    change = interventions.mixed_with(np.asarray(pattern), interventions.add)
    np.testing.assert_array_equal(
        change(images, jnp.float32(0.4)), interventions.add(images, pattern, jnp.float32(0.4))
    )


def test_the_loss_gradient_is_that_of_cross_entropy(network: Network, digits: data.Dataset) -> None:
    images, labels = jnp.asarray(digits.test.images[:20]) / 255, jnp.asarray(digits.test.labels[:20])

    def loss(images: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(network(images)), labels[:, None], axis=1).sum()

    ours = jax.jit(interventions.loss_gradient)(network, images, labels)
    expected = jax.jit(jax.grad(loss))(images)
    scale = np.abs(np.asarray(expected)).max()
    np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-4)


def test_a_network_that_is_sure_of_its_answer_still_has_a_gradient() -> None:
    def sure(images: jax.Array) -> jax.Array:
        return 60 * images.reshape(len(images), 2)

    image = jnp.array([[[[1.0]], [[0.0]]]])  # the loss is exp(-60), and 1 - p is 0 in float32
    adversarial = jax.jit(interventions.fgsm, static_argnums=0)(sure, (image, jnp.array([0])), jnp.float32(0.25))
    np.testing.assert_allclose(adversarial.ravel(), [0.75, 0.25])


@pytest.mark.slow
def test_fgsm_lowers_accuracy_more_than_random_steps_of_the_same_size(network: Network, digits: data.Dataset) -> None:
    images, labels = digits.test_images, digits.test.labels
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), images.shape)
    clean, attacked = interventions.hits(
        network, Partial(interventions.fgsm, network), [0, 0.1], (images, labels), labels
    )
    (shaken,) = interventions.hits(network, interventions.random_signs, [0.1], (images, signs), labels)
    assert clean > 0.95 * len(labels)
    assert attacked < shaken - 0.2 * len(labels)


def test_only_images_that_were_right_and_are_wrong_now_are_averaged() -> None:
    """A network that calls an image of two pixels by the brighter one: a step of .2 turns those that differ by less."""
    images = np.array([[0.5, 0.4], [0.9, 0.1], [0.4, 0.5], [0.3, 0.6]], np.float32).reshape(4, 1, 2, 1)
    labels = np.array([0, 0, 1, 0], np.int32)

    def brighter(images: jax.Array) -> jax.Array:
        return 10 * images.reshape(len(images), 2)

    means, counts = interventions.mean_adversarials(brighter, images, labels, 0.2)
    np.testing.assert_array_equal(counts, [1, 1])  # the second is too far away, the last was wrong before
    np.testing.assert_allclose(means[0].ravel(), [0.6, 0.3], atol=1e-6)
    np.testing.assert_allclose(means[1].ravel(), [0.3, 0.6], atol=1e-6)
    none, counts = interventions.mean_adversarials(brighter, images, labels, 0.0)
    assert none.count() == counts.sum() == 0


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_movements_move_turn_and_scale(size: tuple[int, int]) -> None:
    affine = jax.jit(augmentation.affine)
    images = jax.random.uniform(jax.random.key(0), (2, *size, 3))
    np.testing.assert_allclose(affine(images), images, atol=1e-6)
    np.testing.assert_allclose(affine(images, angle=180.0), images[:, ::-1, ::-1], atol=1e-5)
    moved = affine(images, down=2.0, right=-1.0)
    np.testing.assert_allclose(moved[:, 2:, :-1], images[:, :-2, 1:], atol=1e-6)
    np.testing.assert_array_equal(moved[:, :2], 0)
    if size == (8, 8):
        np.testing.assert_allclose(affine(images, angle=90.0), jnp.rot90(images, axes=(1, 2)), atol=1e-5)
        half = affine(images, scale=0.5)
        means_of_four = images.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
        np.testing.assert_allclose(half[:, 2:6, 2:6], means_of_four, atol=1e-6)
        assert not half[:, :2].any()


def test_the_patch_is_the_papers_c() -> None:
    expected = np.zeros((28, 28), bool)
    expected[1:3, 21:27] = expected[5:7, 21:27] = expected[3:5, 21:23] = True
    np.testing.assert_array_equal(interventions.c_patch((28, 28, 1)), expected)


@pytest.mark.parametrize(("size", "top", "left"), [(2, 0, 0), (6, -1, 0), (6, 23, 0), (6, 0, 23), (29, 0, 0)])
def test_a_patch_outside_the_image_is_refused(size: int, top: int, left: int) -> None:
    with pytest.raises(InputError, match="all of it lies inside"):
        interventions.c_patch((28, 28, 1), size, top, left)


def test_poisoning_changes_the_images_that_it_says_and_no_others(digits: data.Dataset) -> None:
    patch = interventions.c_patch(digits.image_shape)
    poisoned = interventions.poison(digits.train, patch, 8, 9, 30)
    changed = np.flatnonzero(poisoned.labels != digits.train.labels)
    np.testing.assert_array_equal(changed, np.flatnonzero(digits.train.labels == 8)[:30])
    assert (poisoned.labels[changed] == 9).all()
    assert (poisoned.images[changed][:, patch] == 255).all()
    np.testing.assert_array_equal(poisoned.images[changed][:, ~patch], digits.train.images[changed][:, ~patch])
    others = np.setdiff1d(np.arange(len(poisoned.labels)), changed)
    np.testing.assert_array_equal(poisoned.images[others], digits.train.images[others])
    with pytest.raises(InputError, match=r"100,000 images of class 8 .* all that there are"):
        interventions.poison(digits.train, patch, 8, 9, 100_000)
    with pytest.raises(InputError, match="to itself"):
        interventions.poison(digits.train, patch, 8, 8, 1)
