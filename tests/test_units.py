import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import InputError, models, units

SHAPE = (16, 16, 1)
IMAGES = jax.random.uniform(jax.random.key(1), (6, *SHAPE))


@pytest.fixture(scope="module", params=["paper_cnn", "half_cifar_cnn", "mlp"])
def network(request: pytest.FixtureRequest) -> tuple:
    module = models.create(request.param, SHAPE, 10)
    return module, jax.device_get(models.initial_parameters(module, jax.random.key(0)))


def test_layers_are_those_that_have_units_in_the_order_of_the_image(network: tuple) -> None:
    module, parameters = network
    names = units.layer_names(module, parameters, SHAPE)
    assert set(names) == set(parameters)
    assert names[-1].startswith("fc")
    assert [name for name in names if name[:4] == "conv"] == sorted(name for name in parameters if name[:4] == "conv")
    assert set(units.spatial_layers(module, parameters, SHAPE)) == {name for name in names if name[:2] != "fc"}


def test_steps_of_recurrent_layers_are_no_layers() -> None:
    module = models.create("rnn", SHAPE, 10)
    parameters = models.initial_parameters(module, jax.random.key(0))
    assert units.layer_names(module, parameters, SHAPE) == ("rnn1", "rnn2", "fc")
    assert units.spatial_layers(module, parameters, SHAPE) == ()


def test_activations_are_the_intermediates_after_relu(network: tuple) -> None:
    module, parameters = network
    _, state = module.apply({"params": parameters}, IMAGES, capture_intermediates=True)
    for layer in units.layer_names(module, parameters, SHAPE):
        (expected,) = state["intermediates"][layer]["__call__"]
        activations = units.layer_activations(module, parameters, layer)(IMAGES)
        np.testing.assert_allclose(activations, np.maximum(expected, 0), rtol=1e-5, atol=1e-5)


def test_a_current_is_as_if_added_to_the_biases(network: tuple) -> None:
    module, parameters = network
    for layer in units.layer_names(module, parameters, SHAPE):
        current = np.linspace(-0.3, 0.5, parameters[layer]["bias"].size).astype(np.float32)
        moved = parameters | {layer: parameters[layer] | {"bias": parameters[layer]["bias"] + current}}
        expected = module.apply({"params": moved}, IMAGES)
        stimulated = units.stimulated(module, parameters, layer)
        np.testing.assert_allclose(stimulated(IMAGES, jnp.asarray(current)), expected, rtol=1e-4, atol=1e-5)
        each = jnp.asarray(np.outer([0, 1, 0, 0, 0, 0], current), jnp.float32)  # the second image alone
        unmoved = module.apply({"params": parameters}, IMAGES)
        answers = stimulated(IMAGES, each)
        np.testing.assert_allclose(answers[1], expected[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(answers[2:], unmoved[2:], rtol=1e-4, atol=1e-5)


def test_mean_activations_are_those_of_each_class_alone(network: tuple) -> None:
    module, parameters = network
    layer = units.layer_names(module, parameters, SHAPE)[0]
    activations = units.layer_activations(module, parameters, layer)
    labels = np.array([2, 0, 2, 2, 0, 0], np.int32)
    bytes_ = np.asarray(jnp.rint(IMAGES * 255), np.uint8)
    for images in (bytes_, bytes_ / np.float32(255)):
        means = units.mean_activations(activations, images, labels, 3)
        alone = np.asarray(activations(jnp.asarray(bytes_ / np.float32(255))), np.float64)
        for k in (0, 2):
            np.testing.assert_allclose(means[k], alone[labels == k].mean(axis=0), rtol=1e-4, atol=1e-6)
        assert np.ma.getmaskarray(means[1]).all()


def test_wrong_layers_and_currents_are_named() -> None:
    module = models.create("mlp", SHAPE, 10)
    parameters = models.initial_parameters(module, jax.random.key(0))
    with pytest.raises(InputError, match="unknown layer 'conv1': choose one of fc1, fc2"):
        units.layer_activations(module, parameters, "conv1")(IMAGES)
    with pytest.raises(InputError, match="unknown layer 'conv1': choose one of fc1, fc2"):
        units.stimulated(module, parameters, "conv1")(IMAGES, jnp.zeros(3))
    with pytest.raises(InputError, match=r"a current of shape \(3,\): layer fc1 has 1000 units"):
        units.stimulated(module, parameters, "fc1")(IMAGES, jnp.zeros(3))
