from collections.abc import Callable
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import InputError
from wna_jax.networks import Network, models, units

SHAPE = (16, 16, 1)
IMAGES = jax.random.uniform(jax.random.key(1), (6, *SHAPE))


@pytest.fixture(scope="module", params=["paper_cnn", "half_cifar_cnn", "mlp"])
def untrained(request: pytest.FixtureRequest, random_network: Callable[[nn.Module], Network]) -> Network:
    return random_network(models.create(request.param, SHAPE, 10))


def test_layers_are_those_that_have_units_in_the_order_of_the_image(untrained: Network) -> None:
    names = units.layer_names(untrained)
    assert set(names) == set(untrained.parameters)
    assert names[-1].startswith("fc")
    convolutions = [name for name in names if name[:4] == "conv"]
    assert convolutions == sorted(name for name in untrained.parameters if name[:4] == "conv")
    assert set(units.spatial_layers(untrained)) == {name for name in names if name[:2] != "fc"}


def test_steps_of_recurrent_layers_are_no_layers(random_network: Callable[[nn.Module], Network]) -> None:
    network = random_network(models.create("rnn", SHAPE, 10))
    assert units.layer_names(network) == ("rnn1", "rnn2", "fc")
    assert units.spatial_layers(network) == ()


def test_activations_are_the_intermediates_after_relu(untrained: Network) -> None:
    _, state = untrained.module.apply({"params": untrained.parameters}, IMAGES, capture_intermediates=True)
    for layer in units.layer_names(untrained):
        (expected,) = state["intermediates"][layer]["__call__"]
        activations = units.layer_activations(untrained, layer)(IMAGES)
        np.testing.assert_allclose(activations, np.maximum(expected, 0), rtol=1e-5, atol=1e-5)


def test_a_current_is_as_if_added_to_the_biases(untrained: Network) -> None:
    parameters, unmoved = untrained.parameters, untrained(IMAGES)
    for layer in units.layer_names(untrained):
        current = np.linspace(-0.3, 0.5, parameters[layer]["bias"].size).astype(np.float32)
        moved = parameters | {layer: parameters[layer] | {"bias": parameters[layer]["bias"] + current}}
        expected = replace(untrained, parameters=moved)(IMAGES)
        stimulated = units.stimulated(untrained, layer)
        np.testing.assert_allclose(stimulated(IMAGES, jnp.asarray(current)), expected, rtol=1e-4, atol=1e-5)
        each = jnp.asarray(np.outer([0, 1, 0, 0, 0, 0], current), jnp.float32)  # the second image alone
        answers = stimulated(IMAGES, each)
        np.testing.assert_allclose(answers[1], expected[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(answers[2:], unmoved[2:], rtol=1e-4, atol=1e-5)


def test_mean_activations_are_those_of_each_class_alone(untrained: Network) -> None:
    activations = units.layer_activations(untrained, units.layer_names(untrained)[0])
    labels = np.array([2, 0, 2, 2, 0, 0], np.int32)
    bytes_ = np.asarray(jnp.rint(IMAGES * 255), np.uint8)
    for images in (bytes_, bytes_ / np.float32(255)):
        means = units.mean_activations(activations, images, labels, 3)
        alone = np.asarray(activations(jnp.asarray(bytes_ / np.float32(255))), np.float64)
        for k in (0, 2):
            np.testing.assert_allclose(means[k], alone[labels == k].mean(axis=0), rtol=1e-4, atol=1e-6)
        assert np.ma.getmaskarray(means[1]).all()


def test_only_a_first_convolution_has_kernels_of_pixels(untrained: Network) -> None:
    first, *others = units.layer_names(untrained)
    kernels = units.first_kernels(untrained, first)
    if kernels is not None:
        np.testing.assert_array_equal(kernels[3], untrained.parameters[first]["kernel"][..., 3])
    assert (kernels is None) == (first == "fc1")
    assert [units.first_kernels(untrained, layer) for layer in others] == [None] * len(others)


def test_wrong_layers_and_currents_are_named(random_network: Callable[[nn.Module], Network]) -> None:
    network = random_network(models.create("mlp", SHAPE, 10))
    with pytest.raises(InputError, match="unknown layer 'conv1': choose one of fc1, fc2"):
        units.layer_activations(network, "conv1")(IMAGES)
    with pytest.raises(InputError, match="unknown layer 'conv1': choose one of fc1, fc2"):
        units.stimulated(network, "conv1")(IMAGES, jnp.zeros(3))
    with pytest.raises(InputError, match=r"a current of shape \(3,\): layer fc1 has 1000 units"):
        units.stimulated(network, "fc1")(IMAGES, jnp.zeros(3))
