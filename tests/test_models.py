from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wna_jax import models
from wna_jax.errors import InputError
from wna_jax.models.layers import convolution, depth_to_space, max_pool, space_to_depth

COUNTS = {"logistic": 7_850, "mlp": 795_010, "paper_cnn": 431_080, "wide_cnn": 862_100, "net": 688_138}
LAYOUT = ("NHWC", "HWIO", "NHWC")


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("name", models.NAMES)
def test_parameter_counts_are_those_published(name: str) -> None:
    module = models.create(name, (28, 28, 1), 10)
    parameters = models.initial_parameters(module, jax.random.key(0))
    assert models.parameter_count(parameters) == COUNTS[name]
    assert module.apply({"params": parameters}, jnp.zeros((3, 28, 28, 1))).shape == (3, 10)


@pytest.mark.parametrize("name", models.NAMES)
def test_colour_images_of_another_size_are_taken(name: str) -> None:
    module = models.create(name, (33, 40, 3), 7)
    parameters = models.initial_parameters(module, jax.random.key(0))
    assert module.apply({"params": parameters}, jnp.zeros((2, 33, 40, 3))).shape == (2, 7)


@pytest.mark.parametrize("name", ["paper_cnn", "wide_cnn"])
def test_a_field_gives_the_logits_of_each_of_its_windows(name: str) -> None:
    module = models.create(name, (28, 28, 1), 10)
    variables = {"params": models.initial_parameters(module, jax.random.key(0))}
    field = random(1, 2, 44, 40, 1)
    apply = jax.jit(module.apply)
    logits = apply(variables, field)
    assert logits.shape == (2, 5, 4, 10)
    for i in range(5):
        for j in range(4):
            window = field[:, 4 * i : 4 * i + 28, 4 * j : 4 * j + 28]
            np.testing.assert_allclose(logits[:, i, j], apply(variables, window), atol=1e-5)


def test_every_layer_can_be_read() -> None:
    module = models.create("paper_cnn", (28, 28, 1), 10)
    variables = {"params": models.initial_parameters(module, jax.random.key(0))}
    _, state = module.apply(variables, random(1, 2, 28, 28, 1), capture_intermediates=True)
    shapes = {name: state["intermediates"][name]["__call__"][0].shape for name in ("conv1", "conv2", "fc1", "fc2")}
    assert shapes == {"conv1": (2, 24, 24, 20), "conv2": (2, 8, 8, 50), "fc1": (2, 1, 1, 500), "fc2": (2, 1, 1, 10)}


@pytest.mark.parametrize(
    ("size", "kernel", "padding"),
    [
        ((28, 28), (5, 5), "VALID"),
        ((13, 16), (5, 5), "SAME"),
        ((13, 16), (3, 3), "SAME"),
        ((7, 9), (4, 2), "VALID"),
        ((7, 9), (4, 2), "SAME"),
        ((7, 9), (1, 1), "VALID"),
        ((7, 9), (7, 9), "VALID"),
    ],
)
def test_convolution_is_that_of_lax_in_value_and_gradient(
    size: tuple[int, int], kernel: tuple[int, int], padding: str
) -> None:
    x, k = random(0, 2, *size, 3), random(1, *kernel, 3, 4)

    @partial(jax.jit, static_argnums=0)
    def value_and_gradients(convolve: Callable, x: jax.Array, k: jax.Array) -> tuple:
        value, vjp = jax.vjp(lambda x, k: convolve(x, k, (1, 1), padding, dimension_numbers=LAYOUT), x, k)
        return jax.jit(lambda x, k: convolve(x, k, (1, 1), padding, dimension_numbers=LAYOUT))(x, k), *vjp(
            jnp.cos(value)
        )

    ours, theirs = (value_and_gradients(convolve, x, k) for convolve in (convolution, lax.conv_general_dilated))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_convolution_leaves_what_it_does_not_know_to_lax() -> None:
    x, k = random(0, 2, 12, 12, 4), random(1, 3, 3, 2, 6)
    options = {"dimension_numbers": LAYOUT, "feature_group_count": 2, "rhs_dilation": (2, 2)}
    expected = lax.conv_general_dilated(x, k, (2, 2), "VALID", **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(convolution(x, k, (2, 2), "VALID", **options), expected)


def test_max_pool_is_that_of_lax_where_no_pixels_tie_and_shares_the_gradient_where_they_do() -> None:
    x = random(0, 2, 7, 8, 3)
    expected, expected_vjp = jax.vjp(partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2)), x)
    got, got_vjp = jax.vjp(max_pool, x)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(got_vjp(expected)[0], expected_vjp(expected)[0])
    assert (jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 2, 2, 1))) == 0.25).all()


def test_blocks_come_apart_and_together() -> None:
    x = random(0, 2, 6, 4, 3)
    blocks = space_to_depth(x)
    np.testing.assert_array_equal(blocks[0, 2, 1, :, 0], x[0, 4:6, 2:4, 0].ravel())
    np.testing.assert_array_equal(depth_to_space(blocks), x)


def test_several_networks_run_in_one_vmap() -> None:
    module = models.create("paper_cnn", (28, 28, 1), 10)
    parameters = jax.vmap(lambda key: models.initial_parameters(module, key))(jax.random.split(jax.random.key(0), 3))
    x = random(0, 4, 28, 28, 1)
    together = jax.jit(jax.vmap(lambda p: module.apply({"params": p}, x)))(parameters)
    alone = module.apply({"params": jax.tree.map(lambda leaf: leaf[1], parameters)}, x)
    np.testing.assert_allclose(together[1], alone, atol=1e-5)


def test_wrong_input_is_named() -> None:
    with pytest.raises(
        InputError, match=r"unknown model 'paper_cn' \(did you mean 'paper_cnn'\?\): choose one of logi"
    ):
        models.create("paper_cn", (28, 28, 1), 10)
    with pytest.raises(InputError, match=r"at least 16x16 pixels, given \(15, 28\)"):
        models.create("paper_cnn", (15, 28, 1), 10)
    with pytest.raises(InputError, match=r"at least 8x8 pixels, given \(7, 7\)"):
        models.create("net", (7, 7, 1), 10)
