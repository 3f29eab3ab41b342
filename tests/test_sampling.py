from collections.abc import Callable
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import classification_images, models, noise, responses, reverse_correlate
from wna_jax.maps import share_standard_error
from wna_jax.reverse_correlation import Sampling
from wna_jax.sampling import Geometry, find_field, window_sums

WHITE = noise.uniform((28, 28, 1))


def logits_of(name: str, shape: tuple[int, int, int] = (28, 28, 1)) -> Callable[[jax.Array], jax.Array]:
    module = models.create(name, shape, 10)
    parameters = models.initial_parameters(module, jax.random.key(0))
    return lambda images: module.apply({"params": parameters}, images)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (33, 30, 1)])
def test_the_field_of_a_valid_network_is_found_by_its_geometry(shape: tuple[int, int, int]) -> None:
    found = find_field(noise.uniform(shape), logits_of("paper_cnn", shape))
    assert found == Geometry(shape[:2], (4, 4), 32)


class Everywhere(nn.Module):
    """A SAME convolution at stride 4 gives a regular grid too, but sees what is outside a window."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.Conv(3, (9, 9), strides=4, padding="SAME")(images)
        out = nn.Conv(3, (7, 7), padding="VALID")(x)
        return out[:, 0, 0] if out.shape[1:3] == (1, 1) else out


def test_a_network_without_a_field_is_told_why() -> None:
    same = Everywhere()
    variables = same.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    for respond, why in [
        (logits_of("net"), "the network takes images of one size alone"),
        (logits_of("mlp"), "the network takes images of one size alone"),
        (lambda x: x.mean(axis=(1, 2)), "are no grid of answers to their windows"),
        (lambda x: same.apply(variables, x), "depends on what is outside the window"),
    ]:
        assert why in str(find_field(WHITE, respond))
    saturated = responses.of_classifier(lambda x: 1e6 * same.apply(variables, x), ["decision"])
    assert "depends on what is outside the window" in str(find_field(WHITE, saturated))
    single = replace(WHITE, draw=None)
    assert "exists in the size of one image alone" in str(find_field(single, logits_of("paper_cnn")))


@pytest.mark.parametrize(
    ("window", "stride", "grid"), [((28, 28), (4, 4), 5), ((9, 7), (2, 3), 4), ((6, 5), (6, 5), 1)]
)
def test_window_sums_are_those_of_copied_windows(window: tuple, stride: tuple, grid: int) -> None:
    geometry = Geometry(window, stride, grid)
    fields = jax.random.normal(jax.random.key(0), (2, *geometry.field, 3))
    weights = jax.random.normal(jax.random.key(1), (2, grid, grid, 4))
    expected = np.zeros((4, *window, 3))
    for i in range(grid):
        for j in range(grid):
            piece = fields[:, stride[0] * i :, stride[1] * j :][:, : window[0], : window[1]]
            expected += np.einsum("nk,nhwc->khwc", weights[:, i, j], piece)
    np.testing.assert_allclose(window_sums(weights, fields, geometry), expected, atol=1e-4)


def test_a_map_of_windows_varies_no_more_than_one_of_independent_samples(network: Callable) -> None:
    """Variance between blocks of 4,096 samples, of trained weights: field over independent is 1 within 5%."""
    respond, white = responses.of_classifier(network, ["probability"]), noise.gaussian((28, 28, 1), 0.3, 0.3)
    variance = {}
    samplings: tuple[Sampling, ...] = ("independent", "field")
    for how in samplings:
        blocks = [
            reverse_correlate(white, respond, 4096, seed=seed, sampling=how, batch_size=4096)["probability"]
            for seed in range(24)
        ]
        images = np.ma.stack([classification_images(block, white).images for block in blocks])
        expected = np.ma.stack([classification_images(block, white).standard_error for block in blocks])
        variance[how] = (images.var(axis=0, ddof=1) / (expected**2).mean(axis=0)).mean()
    assert variance["field"] / variance["independent"] == pytest.approx(1, abs=0.05)
    assert variance["independent"] == pytest.approx(
        1, abs=0.05
    )  # the stated standard error is that of a trained network


def brightness(images: jax.Array) -> jax.Array:
    """Calls a window dark or bright by its mean, at stride 4: neighbouring windows, which share most pixels, agree."""
    kernel = jnp.full((28, 28, 1, 1), 1 / 784)
    mean = jax.lax.conv_general_dilated(images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))[
        ..., 0
    ]
    logits = jnp.stack([0.5 - mean, mean - 0.5], axis=-1)
    return logits[:, 0, 0] if logits.shape[1:3] == (1, 1) else logits


def test_the_error_of_a_share_is_that_of_dependent_windows() -> None:
    """Over 60 runs of 20 fields the share deviates by the stated error, known to 1 / sqrt(120) = 9%: margin three."""
    respond = responses.of_classifier(brightness, ["decision"])
    runs = [
        reverse_correlate(WHITE, respond, 20 * 1024, seed=seed, sampling="field", batch_size=20 * 1024)["decision"]
        for seed in range(60)
    ]
    shares = np.array([run.weight_sum / run.num_samples for run in runs])
    stated = np.sqrt(np.mean([share_standard_error(run) ** 2 for run in runs], axis=0))
    np.testing.assert_allclose(shares.std(axis=0, ddof=1) / stated, 1, atol=0.27)
    assert (stated > 3 * np.sqrt(0.25 / (20 * 1024))).all()  # the binomial error would be far too small


def test_the_error_of_a_share_of_independent_samples_is_binomial(network: Callable) -> None:
    m = reverse_correlate(WHITE, responses.of_classifier(network), 2000, sampling="independent")["decision"]
    p = m.count / 2000
    np.testing.assert_allclose(share_standard_error(m), np.sqrt(p * (1 - p) / 1999), rtol=1e-6)
    one = reverse_correlate(WHITE, responses.of_classifier(network), 1000, sampling="field")["decision"]
    assert np.ma.getmaskarray(share_standard_error(one)).all()  # one field tells nothing of its error
