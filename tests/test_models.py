import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wna_jax.networks import Network, models
from wna_jax.networks.models import layers, winograd
from wna_jax.networks.models.convolutional import BlockNetwork, ValidConvolutionNetwork
from wna_jax.networks.models.layers import convolution, depth_to_space, fold_statistics, max_pool, space_to_depth
from wna_jax.runs.errors import InputError

COUNTS = {
    "logistic": 7_850,
    "mlp": 795_010,
    "paper_cnn": 431_080,
    "wide_cnn": 862_100,
    "net": 688_138,
    "flat_cnn": 1_625_866,
    "rnn": 34_210 - 200,  # one bias a unit and gate, where PyTorch keeps two
    "lstm": 214_282 - 1_024,
}
CARD = Path(__file__).parent.parent / "docs" / "model_card.md"
LAYOUT = ("NHWC", "HWIO", "NHWC")


RandomNetwork = Callable[[nn.Module], Network]


def random(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@pytest.mark.parametrize(
    ("name", "image_shape", "num_classes", "count"),
    [
        *((name, (28, 28, 1), 10, count) for name, count in COUNTS.items()),
        ("pair_cnn", (28, 28, 1), 2, 93_011 + 101),  # the published sigmoid has one unit, this softmax two
        ("cifar_cnn", (32, 32, 3), 10, 5_852_170),
        ("deep_cnn", (32, 32, 3), 10, 551_466 - 2 * (32 + 64 + 128)),  # Keras counts moving means and variances
    ],
)
def test_parameter_counts_are_those_published(
    name: str, image_shape: tuple[int, int, int], num_classes: int, count: int
) -> None:
    network, logits = shapes_of(name, image_shape, num_classes)
    assert network.parameter_count == count
    assert logits.shape == (3, num_classes)


def test_the_model_card_has_every_network_and_its_number_of_parameters() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \| (\d+)x(\d+)x(\d) \|", CARD.read_text(), re.MULTILINE)
    assert {name for name, *_ in rows} == set(models.NAMES)
    for name, count, *(height, width, channels) in rows:
        shape = int(height), int(width), int(channels)
        network, _ = shapes_of(name, shape, 2 if name == "pair_cnn" else 10)
        assert f"{network.parameter_count:,}" == count, name


def shapes_of(name: str, image_shape: tuple[int, int, int], num_classes: int) -> tuple[Network, jax.ShapeDtypeStruct]:
    """A network of shapes, and the shape of its logits for three images: nothing is computed or compiled."""

    def answered(images: jax.Array) -> tuple[Network, jax.Array]:
        network = models.untrained(name, image_shape, num_classes)
        return network, network(images)

    return jax.eval_shape(answered, jax.ShapeDtypeStruct((3, *image_shape), jnp.float32))


@pytest.mark.parametrize("name", models.NAMES)
def test_colour_images_of_another_size_are_taken(name: str) -> None:
    assert shapes_of(name, (33, 40, 3), 7)[1].shape == (3, 7)


@pytest.mark.parametrize("name", ["paper_cnn", "wide_cnn"])
def test_a_field_gives_the_logits_of_each_of_its_windows(name: str, random_network: RandomNetwork) -> None:
    network = random_network(models.create(name, (28, 28, 1), 10))
    field = random(1, 2, 44, 40, 1)
    apply = jax.jit(lambda network, images: network(images))
    logits = apply(network, field)
    assert logits.shape == (2, 5, 4, 10)
    for i in range(5):
        for j in range(4):
            window = field[:, 4 * i : 4 * i + 28, 4 * j : 4 * j + 28]
            np.testing.assert_allclose(logits[:, i, j], apply(network, window), atol=1e-5)


def test_every_layer_can_be_read() -> None:
    def states(images: jax.Array) -> dict:
        network = models.untrained("paper_cnn", (28, 28, 1), 10)
        return network.module.apply({"params": network.parameters}, images, capture_intermediates=True)[1]

    state = jax.eval_shape(states, jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32))
    shapes = {name: state["intermediates"][name]["__call__"][0].shape for name in ("conv1", "conv2", "fc1", "fc2")}
    assert shapes == {"conv1": (2, 24, 24, 20), "conv2": (2, 8, 8, 50), "fc1": (2, 1, 1, 500), "fc2": (2, 1, 1, 10)}


@pytest.mark.parametrize("channels", [3, 32])
@pytest.mark.parametrize(
    ("size", "kernel", "padding"),
    [
        ((28, 28), (5, 5), "VALID"),
        ((13, 16), (5, 5), "SAME"),
        ((13, 16), (3, 3), "SAME"),
        ((13, 16), (2, 2), "VALID"),
        ((7, 9), (4, 2), "VALID"),
        ((7, 9), (4, 2), "SAME"),
        ((7, 9), (1, 1), "VALID"),
        ((7, 9), (7, 9), "VALID"),
    ],
)
def test_convolution_is_that_of_lax_in_value_and_gradient(
    size: tuple[int, int], kernel: tuple[int, int], padding: str, channels: int
) -> None:
    x, k = random(0, 2, *size, channels), random(1, *kernel, channels, 4) / channels**0.5

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


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="an accelerator's max_pool is that of lax where pixels tie, too"
)
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


NARROW = BlockNetwork((8, 8, 3), 10, widths=(8, 8, 8, 8, 8, 8, 32, 16))


def test_batch_normalisation_with_folded_statistics_is_that_of_the_batch() -> None:
    module = NARROW
    parameters = models.initial_parameters(module, jax.random.key(0))
    x = 3 + 2 * random(1, 64, 8, 8, 3)
    train = jax.jit(partial(module.apply, mutable=["batch_statistics"]))
    evaluate = jax.jit(partial(module.apply, capture_intermediates=lambda m, _: m.name == "bn3"))
    in_training, state = train({"params": parameters}, x)
    folded = fold_statistics(parameters, state["batch_statistics"])
    evaluated, state = evaluate({"params": folded}, x)
    np.testing.assert_allclose(evaluated, in_training, atol=1e-4)
    assert np.abs(evaluate({"params": parameters}, x)[0] - in_training).max() > 0.01
    normalised = np.asarray(state["intermediates"]["bn3"]["__call__"][0])
    np.testing.assert_allclose(normalised.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(axis=(0, 1, 2)), 1, atol=1e-2)


def test_dropout_is_of_training_alone() -> None:
    variables = {"params": models.initial_parameters(NARROW, jax.random.key(0))}
    x = random(1, 4, 8, 8, 3)
    train = jax.jit(lambda key: NARROW.apply(variables, x, rngs={"dropout": key}))
    answers = [train(jax.random.key(seed)) for seed in range(30)]
    assert (answers[0] != answers[1]).any()
    evaluated = jax.jit(NARROW.apply)(variables, x)
    spread = np.std(answers, axis=0)
    assert (np.abs(np.mean(answers, axis=0) - evaluated) < spread).all()  # it is what training is in the mean


def tanh_cell(p: dict, row: np.ndarray, state: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.tanh(row @ p["i"]["kernel"] + p["i"]["bias"] + state[0] @ p["h"]["kernel"])
    return hidden, state[1]


def lstm_cell(p: dict, row: np.ndarray, state: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    hidden, memory = state
    i, f, g, o = (row @ p[f"i{x}"]["kernel"] + hidden @ p[f"h{x}"]["kernel"] + p[f"h{x}"]["bias"] for x in "ifgo")
    memory = nn.sigmoid(f) * memory + nn.sigmoid(i) * np.tanh(g)
    return nn.sigmoid(o) * np.tanh(memory), memory


@pytest.mark.parametrize(("name", "cell", "width"), [("rnn", tanh_cell, 100), ("lstm", lstm_cell, 128)])
def test_recurrent_networks_are_the_recurrence_of_their_definition(
    name: str, cell: Callable, width: int, random_network: RandomNetwork
) -> None:
    network = random_network(models.create(name, (5, 4, 2), 3))
    parameters = network.parameters
    image = random(1, 1, 5, 4, 2)
    rows = list(image.reshape(5, 8))  # from the top
    for layer in ("cell1", "cell2"):
        state = (np.zeros(width, np.float32), np.zeros(width, np.float32))
        for t, row in enumerate(rows):
            state = cell(parameters[layer], row, state)
            rows[t] = state[0]
    expected = rows[-1] @ parameters["fc"]["kernel"] + parameters["fc"]["bias"]
    np.testing.assert_allclose(network(image)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "padding", "shape"),
    [
        (5, "VALID", (28, 28, 1)),
        (5, "VALID", (17, 29, 3)),
        (3, "SAME", (9, 12, 2)),
        (4, "VALID", (11, 10, 1)),
        (3, "SAME", (8, 7, 16)),
        (2, "VALID", (8, 8, 32)),
    ],
)
def test_a_convolution_and_its_pooling_are_one_function_in_every_form(
    kernel: int, padding: str, shape: tuple[int, int, int]
) -> None:
    """Blocks and rows, which accelerators take, and whole vectors of a CPU, against `lax`, in value and gradient."""
    x, weights = random(0, 3, *shape), random(1, kernel, kernel, shape[2], 7)
    pads = lax.padtype_to_pads(shape[:2], (kernel, kernel), (1, 1), padding)
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))

    def by_lax(x: jax.Array, weights: jax.Array) -> jax.Array:
        full = lax.conv_general_dilated(x, weights, (1, 1), "VALID", dimension_numbers=LAYOUT)
        return lax.reduce_window(full, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    forms: list[Callable] = [
        lambda x, weights: layers._convolved_blocks(x, weights).max(axis=3),
        layers._pooled_rows,
        layers._pooled_in_lanes,
        layers._pooled_by_blocks,
        partial(layers.pooled_convolution, padding="VALID"),
        *([layers._pooled_by_winograd] if kernel in winograd.SIZES else []),
    ]

    def value_and_gradient(form: Callable) -> Any:
        @jax.jit
        def both(x: jax.Array, weights: jax.Array) -> Any:
            value, backwards = jax.vjp(form, x, weights)
            return value, backwards(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))

        return both(padded, weights)

    expected = value_and_gradient(by_lax)
    for form in forms:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), value_and_gradient(form), expected)
    pooled = jax.jit(layers.pooled_convolution, static_argnums=2)(x, weights, padding)
    np.testing.assert_allclose(pooled, expected[0], atol=2e-5)


@pytest.mark.parametrize("size", winograd.SIZES)
def test_fewer_products_see_what_the_kernel_covers_and_nothing_else(size: int) -> None:
    """A changed pixel changes no bit elsewhere, so that fields of units are found by asking; twice differentiable."""
    x, weights = random(0, 1, 9, 10, 4), random(1, size, size, 4, 3)
    convolve = jax.jit(winograd.convolution)
    plain = partial(
        lax.conv_general_dilated, window_strides=(1, 1), padding="VALID", dimension_numbers=LAYOUT, precision="highest"
    )
    changed = convolve(x.at[0, 4, 5].add(100), weights) != convolve(x, weights)
    rows, columns = np.arange(changed.shape[1])[:, None], np.arange(changed.shape[2])
    covers = (rows <= 4) & (rows > 4 - size) & (columns <= 5) & (columns > 5 - size)
    np.testing.assert_array_equal(changed.any(axis=(0, 3)), covers)

    def slope(convolve: Callable, weights: jax.Array) -> jax.Array:
        return jnp.square(jax.grad(lambda x: jnp.sin(convolve(x, weights)).sum())(x)).sum()

    ours, theirs = (jax.jit(jax.grad(partial(slope, form)))(weights) for form in (winograd.convolution, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator's max_pool is that of lax")
def test_ties_share_the_gradient_in_a_pooling_by_winograd_too() -> None:
    x, weights = jnp.ones((1, 4, 4, 16)), jnp.ones((3, 3, 16, 1))
    gradient = jax.jit(jax.grad(lambda x: layers.pooled_convolution(x, weights, "VALID").sum()))(x)
    seen = [1, 2, 2, 1]
    expected = np.outer(seen, seen) / 4  # how many of the four equal outputs see the pixel
    np.testing.assert_array_equal(gradient, np.broadcast_to(expected[None, :, :, None], x.shape))


@pytest.mark.parametrize("name", ["logistic", "paper_cnn", "half_cifar_cnn", "deep_cnn", "lstm"])
def test_logits_in_bfloat16_are_those_in_float32_but_for_its_rounding(name: str, random_network: RandomNetwork) -> None:
    network = random_network(models.create(name, (16, 16, 3), 10))
    apply = jax.jit(lambda network, images: network(images))
    images = random(0, 4, 16, 16, 3)
    exact, rounded = apply(network, images), apply(replace(network, precision="bfloat16"), images)
    assert rounded.dtype == jnp.float32
    difference = np.abs(exact - rounded).max() / np.ptp(exact)
    assert 0 < difference < 0.05  # 8 bits, through several layers


def test_a_convolution_has_the_parameters_of_linen() -> None:
    x = random(0, 1, 9, 9, 2)
    ours = layers.Convolution(3, (5, 5), name="conv1").init(jax.random.key(3), x)
    theirs = nn.Conv(3, (5, 5), padding="VALID", name="conv1").init(jax.random.key(3), x)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_several_networks_run_in_one_vmap() -> None:
    module = ValidConvolutionNetwork((16, 16, 1), 10, widths=(4, 5, 6))
    shapes = jax.eval_shape(lambda: models.initial_parameters(module, jax.random.key(0)))
    parameters = jax.tree.map(lambda leaf: random(leaf.size, 3, *leaf.shape) / 10, shapes)
    x = random(0, 4, 16, 16, 1)
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
