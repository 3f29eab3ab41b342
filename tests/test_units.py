from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wna_jax import InputError, draw_samples, networks, noise, responses, reverse_correlate
from wna_jax.networks import Network, models, units
from wna_jax.studies import receptive_fields

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


class Linen(nn.Module):
    """Batch normalisation, dropout, and what a training mode is called elsewhere."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(4, (3, 3), padding="VALID")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.Dropout(0.5, deterministic=not train)(nn.Conv(5, (3, 3), strides=2, padding="VALID")(x))
        return nn.Dense(3)(nn.relu(x).reshape(len(x), -1))


class OfNNX(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(1, 4, (3, 3), padding="VALID", rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.blocks = nnx.List([nnx.Conv(4, 5, (3, 3), strides=2, padding="VALID", rngs=rngs)])
        self.out = nnx.Linear(180, 3, rngs=rngs)
        self.eval()

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.first(images)))
        return self.out(self.drop(nnx.relu(self.blocks[0](x))).reshape(len(x), -1))


def of_linen() -> networks.Network:
    module = Linen()
    variables = module.init(jax.random.key(0), IMAGES, train=False)
    return networks.of_linen(module, variables, train=False)


def of_torch() -> Any:
    torch: Any = pytest.importorskip("torch")
    nn, _ = torch.nn, torch.manual_seed(0)
    first = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*first, nn.Dropout(0.5), nn.Flatten(), nn.Linear(180, 3))


def of_equinox() -> Any:
    eqx: Any = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    last = [eqx.nn.Dropout(0.5), eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(180, 3, key=keys[2])]
    first = [eqx.nn.Conv2d(1, 4, 3, key=keys[0]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.Conv2d(4, 5, 3, 2, key=keys[1])]
    return eqx.nn.inference_mode(eqx.nn.Sequential([*first, eqx.nn.Lambda(jax.nn.relu), *last]))


FOREIGN: dict[str, tuple[Callable[[], Any], tuple[str, ...], str, str]] = {
    "linen": (of_linen, ("Conv_0", "BatchNorm_0", "Conv_1", "Dense_0"), "Conv_1", "Dense_0"),
    "nnx": (OfNNX, ("first", "norm", "blocks/0", "out"), "blocks/0", "out"),
    "torch": (of_torch, ("0", "1", "3", "7"), "3", "7"),
    "equinox": (of_equinox, ("layers/0", "layers/2", "layers/6"), "layers/2", "layers/6"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOREIGN)
def test_units_of_networks_of_other_packages_have_receptive_fields_and_averages(kind: str) -> None:
    """All four have the same layers: 3x3, then 3x3 at stride 2, so that a unit sees 5x5 pixels, every second one."""
    make, names, second, last = FOREIGN[kind]
    network = make()
    assert units.layer_names(network, SHAPE) == names
    assert units.spatial_layers(network, SHAPE) == names[:-1]
    activations = units.layer_activations(network, second)
    view = receptive_fields.units_of(activations, SHAPE)
    assert (view.field.size, view.field.jump, view.field.units) == ((5, 5), (2, 2), (6, 6))
    logits = np.asarray(responses.logits_of(network, IMAGES))
    of_last = units.layer_activations(network, last)(IMAGES)
    np.testing.assert_allclose(of_last, np.maximum(logits, 0), rtol=1e-4, atol=1e-5)
    moments = reverse_correlate(noise.uniform(view.noise_shape), view.respond, 2_000, sampling="independent")
    shown = draw_samples(noise.uniform(view.noise_shape), 2_000)
    weights = np.asarray(activations(shown)).reshape(2_000, 5)
    np.testing.assert_allclose(moments.sum, np.einsum("nk,nhwc->khwc", weights, shown), rtol=1e-3, atol=0.1)
    with pytest.raises(InputError, match=f"unknown layer 'conv9'.*: choose one of .*{second}"):
        units.layer_activations(network, "conv9")(IMAGES)


def test_wrong_layers_and_currents_are_named(random_network: Callable[[nn.Module], Network]) -> None:
    network = random_network(models.create("mlp", SHAPE, 10))
    with pytest.raises(InputError, match="unknown layer 'conv1': choose one of fc1, fc2"):
        units.layer_activations(network, "conv1")(IMAGES)
    with pytest.raises(InputError, match="unknown layer 'conv1': choose one of fc1, fc2"):
        units.stimulated(network, "conv1")(IMAGES, jnp.zeros(3))
    with pytest.raises(InputError, match=r"a current of shape \(3,\): layer fc1 has 1000 units"):
        units.stimulated(network, "fc1")(IMAGES, jnp.zeros(3))
