from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import InputError, classification_images, models, noise, receptive_fields, reverse_correlate
from wna_jax.receptive_fields import receptive_field, units_of
from wna_jax.reverse_correlation import draw_samples
from wna_jax.units import layer_activations

SHAPE = (28, 28, 1)


def network(name: str, shape: tuple[int, int, int] = SHAPE) -> tuple[nn.Module, dict]:
    module = models.create(name, shape, 10)
    return module, jax.device_get(models.initial_parameters(module, jax.random.key(0)))


def activations_of(name: str, layer: str, shape: tuple[int, int, int] = SHAPE) -> Callable:
    return layer_activations(*network(name, shape), layer)


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("paper_cnn", "conv1", ((5, 5), (1, 1), (0, 0), (24, 24))),
        ("paper_cnn", "conv2", ((14, 14), (2, 2), (0, 0), (8, 8))),
        ("paper_cnn", "fc1", ((28, 28), (0, 0), (0, 0), (1, 1))),
        ("net", "conv1", ((3, 3), (1, 1), (-1, -1), (28, 28))),
        ("net", "conv2", ((8, 8), (2, 2), (-3, -3), (14, 14))),
        ("net", "conv3", ((18, 18), (4, 4), (-7, -7), (7, 7))),
        ("mlp", "fc1", ((28, 28), (0, 0), (0, 0), (1, 1))),
    ],
)
def test_receptive_fields_are_those_of_the_arithmetic(name: str, layer: str, expected: tuple) -> None:
    """size' = size + (k - 1) jump, jump' = jump stride, by hand; 5 and 14 are also the authors' figures."""
    assert tuple(receptive_field(activations_of(name, layer), SHAPE)) == expected


def test_a_window_that_no_image_holds_is_found_in_a_larger_one() -> None:
    small = (16, 16, 1)
    field = receptive_field(activations_of("net", "conv3", small), small)
    assert tuple(field) == ((18, 18), (4, 4), (-7, -7), (4, 4))
    assert field.crop((1, 3), small) == (slice(0, 15), slice(5, 16))


@pytest.mark.parametrize(("name", "layer"), [("paper_cnn", "conv2"), ("net", "conv2"), ("net", "conv3")])
def test_a_unit_has_a_gradient_in_its_receptive_field_alone(name: str, layer: str) -> None:
    activations = activations_of(name, layer)
    field = receptive_field(activations, SHAPE)
    images = jax.random.uniform(jax.random.key(1), (20, *SHAPE))
    last = field.units[0] - 1
    for position in ((0, 0), (last, 1), (last // 2, last)):
        gradient = jax.jit(jax.grad(lambda x, p=position: activations(x)[:, p[0], p[1]].sum()))(images)
        support = np.zeros(SHAPE[:2], bool)
        support[field.crop(position, SHAPE)] = True
        np.testing.assert_array_equal((np.abs(gradient).sum(axis=(0, 3)) > 0), support)
    with pytest.raises(InputError, match="expected one from"):
        field.crop((last + 1, 0), SHAPE)


def test_the_average_of_a_linear_unit_is_its_kernel() -> None:
    """A unit relu(w.x) in Gaussian noise has E[a x] / E[a] = s sqrt(pi / 2) w / |w|, at every position alike."""
    activations = activations_of("paper_cnn", "conv1")
    kernel = np.asarray(network("paper_cnn")[1]["conv1"]["kernel"])  # [5, 5, 1, 20], no bias yet
    shape, respond, seen, _ = units_of(activations, SHAPE)
    assert shape == (5, 5, 1)
    assert seen == (slice(None), slice(None))
    white = noise.gaussian(shape, 0.0, 1.0)
    moments = reverse_correlate(white, respond, 500_000)
    assert moments.field_sums is not None  # positions of one field are the samples
    maps = classification_images(moments, white)
    for k in range(20):
        w = kernel[..., k]
        np.testing.assert_allclose(maps.images[k], np.sqrt(np.pi / 2) * w / np.linalg.norm(w), atol=0.02)


def test_a_padded_layer_is_seen_from_its_middle() -> None:
    shape, respond, crop, _ = units_of(activations_of("net", "conv2"), SHAPE)
    assert shape == SHAPE
    assert crop == (slice(11, 19), slice(11, 19))
    white = noise.gaussian(shape, 0.5, 0.3)
    maps = classification_images(reverse_correlate(white, respond, 4000), white)
    z = np.ma.abs(maps.images / maps.standard_error)
    outside = np.ones(SHAPE[:2], bool)
    outside[crop] = False
    assert z[:, crop[0], crop[1]].mean() > 1.5
    assert z[:, outside].mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)


def energy(images: jax.Array) -> jax.Array:
    """A unit of two quadrature features, the sum of their squares, and one that a third feature silences."""
    pixels = images.reshape(len(images), -1)
    match = pixels @ FEATURES.T
    return jnp.stack([match[:, 0] ** 2 + match[:, 1] ** 2, jnp.exp(-2 * match[:, 2] ** 2)], axis=1)


FEATURES = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0][:3], jnp.float32)


def covariances_of(respond: Callable, white: noise.Noise, count: int, **options: int) -> dict:
    return reverse_correlate(white, receptive_fields.with_products(respond, white), count, **options)


def test_products_are_those_of_the_samples_themselves() -> None:
    white = noise.gaussian((3, 2, 1), 0.4, 0.2)
    moments = covariances_of(energy_of_two, white, 600)
    x = np.asarray(draw_samples(white, 600), np.float64)
    w = np.asarray(energy_of_two(jnp.asarray(x, jnp.float32)), np.float64)
    standard = (x.reshape(600, -1) - 0.4) / 0.2
    direction = np.linalg.qr((w[:, 0] @ standard)[:, None], mode="complete")[0][:, 1:]
    covariance = direction.T @ (standard.T @ (w[:, :1] * standard)) @ direction / w[:, 0].sum()
    found = receptive_fields.spike_triggered_covariance(moments, 0, white, nulls=19)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(covariance), rtol=1e-4)
    assert found.effective_samples == pytest.approx(w[:, 0].sum() ** 2 / (w[:, 0] ** 2).sum())


def energy_of_two(images: jax.Array) -> jax.Array:
    return jnp.stack([images[:, 0, 0, 0] ** 2, images[:, 1, 1, 0] ** 2], axis=1)


def test_the_features_of_an_energy_unit_are_recovered_and_no_others() -> None:
    white = noise.gaussian((8, 8, 1), 0.0, 1.0)
    moments = covariances_of(energy, white, 20_000)
    found = receptive_fields.spike_triggered_covariance(moments, 0, white)
    assert (len(found.excitatory), len(found.suppressive)) == (2, 0)
    seen = found.features[found.excitatory].reshape(2, -1)
    overlap = np.linalg.svd(seen @ np.asarray(FEATURES[:2]).T)[1]
    assert overlap.min() > 0.95
    other = receptive_fields.spike_triggered_covariance(moments, 1, white)
    assert (len(other.excitatory), len(other.suppressive)) == (0, 1)
    assert abs(other.features[other.suppressive[0]].ravel() @ np.asarray(FEATURES[2])) > 0.95


def test_a_unit_that_does_not_look_has_no_significant_feature_in_95_of_100_runs() -> None:
    white = noise.gaussian((5, 5, 1), 0.3, 0.2)

    def blind(images: jax.Array) -> jax.Array:
        seen = jnp.abs(images.reshape(len(images), -1)[:, :4] - 0.3) / 0.2
        return jnp.roll(nn.relu(seen), 1, axis=0)  # what it answers to another image

    respond, hits = receptive_fields.with_products(blind, white), []
    for seed in range(100):
        moments = reverse_correlate(white, respond, 2000, seed=seed, batch_size=2000)
        for unit in range(4):
            found = receptive_fields.spike_triggered_covariance(moments, unit, white, nulls=199, seed=seed)
            hits.append(len(found.excitatory) + len(found.suppressive) > 0)
    assert np.mean(hits) == pytest.approx(0.05, abs=0.033)  # three standard errors of 400 runs


def test_extremes_of_the_null_are_those_of_covariances_of_gaussian_samples() -> None:
    low, high = receptive_fields._null_extremes(30, 200.0, 500, 0)
    random = np.random.default_rng(1)
    samples = random.standard_normal((500, 200, 30))
    eigenvalues = np.linalg.eigvalsh(np.swapaxes(samples, 1, 2) @ samples / 200)
    for ours, direct in ((low, eigenvalues[:, 0]), (high, eigenvalues[:, -1])):
        assert ours.mean() == pytest.approx(direct.mean(), abs=5 * direct.std() / np.sqrt(250))
        assert ours.std() == pytest.approx(direct.std(), rel=0.2)


def test_wrong_units_are_named() -> None:
    white = noise.gaussian((8, 8, 1), 0.0, 1.0)
    silent = covariances_of(lambda x: jnp.zeros((len(x), 2)), white, 100)
    for unit, said in ((2, "unit 2: expected one from 0 to 1"), (0, "unit 0 never fired")):
        with pytest.raises(InputError, match=said):
            receptive_fields.spike_triggered_covariance(silent, unit, white)
    with pytest.raises(InputError, match="needs Gaussian noise"):
        receptive_fields.with_products(energy, noise.stripes((8, 8, 1)))


class Plain(nn.Module):
    """Convolutions as a user's own network has them."""

    options: dict

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return nn.Conv(3, name="layer", use_bias=False, **self.options)(images)


@pytest.mark.parametrize(
    ("options", "length", "expected"),
    [
        ({"kernel_size": (3, 3), "strides": 2}, 28, (3, 2, 0, 14)),  # all of the padding is at the end
        ({"kernel_size": (2, 2)}, 12, (2, 1, 0, 12)),
        ({"kernel_size": (3, 3), "kernel_dilation": 2}, 12, (5, 1, -2, 12)),
        ({"kernel_size": (3, 3), "kernel_dilation": 2, "padding": "VALID"}, 12, (5, 1, 0, 8)),
        ({"kernel_size": (5, 5), "strides": 2}, 7, (5, 2, -2, 4)),
        ({"kernel_size": (3, 3), "strides": 2}, 5, (3, 2, -1, 3)),
    ],
)
def test_strides_dilation_and_one_sided_padding_are_found(options: dict, length: int, expected: tuple) -> None:
    """size, jump, start, units; padding as of `lax.padtype_to_pads`, (units - 1) stride + size - length, half first."""
    module, shape = Plain(options), (length, length, 1)
    parameters = module.init(jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    activations = layer_activations(module, parameters, "layer")
    field = receptive_field(activations, shape)
    assert tuple(pair[0] for pair in field) == tuple(pair[1] for pair in field) == expected
    assert field.padded(shape) == (options.get("padding") != "VALID")
    view = units_of(activations, shape)
    assert view.respond(jnp.zeros((2, *view.noise_shape))).shape == (2, 3)


def test_covariances_of_too_few_samples_or_of_other_noise_are_refused() -> None:
    white = noise.gaussian((8, 8, 1), 0.0, 1.0)
    moments = covariances_of(energy, white, 1000)
    with pytest.raises(InputError, match="effective samples of 64 pixels: expected at least 20 a pixel, take 3 times"):
        receptive_fields.spike_triggered_covariance(moments, 0, white)
    with pytest.raises(InputError, match="needs Gaussian noise of independent pixels"):
        receptive_fields.with_products(energy, noise.uniform((8, 8, 1)))
