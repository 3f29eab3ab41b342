from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import InputError
from wna_jax.networks import Network, models
from wna_jax.networks.units import Activations, layer_activations
from wna_jax.studies.receptive_fields import receptive_field, units_of

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def activations_of(random_network: Callable[[nn.Module], Network]) -> Callable[..., Activations]:
    def activations(name: str, layer: str, shape: tuple[int, int, int] = SHAPE) -> Activations:
        return layer_activations(random_network(models.create(name, shape, 10)), layer)

    return activations


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
def test_receptive_fields_are_those_of_the_arithmetic(
    activations_of: Callable[..., Activations], name: str, layer: str, expected: tuple
) -> None:
    """size' = size + (k - 1) jump, jump' = jump stride, by hand; 5 and 14 are also the authors' figures."""
    assert tuple(receptive_field(activations_of(name, layer), SHAPE)) == expected


@pytest.mark.slow
def test_a_window_that_no_image_holds_is_found_in_a_larger_one(activations_of: Callable[..., Activations]) -> None:
    small = (16, 16, 1)
    field = receptive_field(activations_of("net", "conv3", small), small)
    assert tuple(field) == ((18, 18), (4, 4), (-7, -7), (4, 4))
    assert field.crop((1, 3), small) == (slice(0, 15), slice(5, 16))


@pytest.mark.parametrize(("name", "layer"), [("paper_cnn", "conv2"), ("net", "conv2"), ("net", "conv3")])
def test_a_unit_has_a_gradient_in_its_receptive_field_alone(
    activations_of: Callable[..., Activations], name: str, layer: str
) -> None:
    activations = activations_of(name, layer)
    field = receptive_field(activations, SHAPE)
    images = jax.random.uniform(jax.random.key(1), (20, *SHAPE))
    last = field.units[0] - 1
    gradient_of = jax.jit(jax.grad(lambda x, i, j: activations(x)[:, i, j].sum()))
    for position in ((0, 0), (last, 1), (last // 2, last)):
        gradient = gradient_of(images, *position)
        support = np.zeros(SHAPE[:2], bool)
        support[field.crop(position, SHAPE)] = True
        np.testing.assert_array_equal((np.abs(gradient).sum(axis=(0, 3)) > 0), support)
    with pytest.raises(InputError, match="expected one from"):
        field.crop((last + 1, 0), SHAPE)


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
    activations = layer_activations(Network(module, parameters), "layer")
    field = receptive_field(activations, shape)
    assert tuple(pair[0] for pair in field) == tuple(pair[1] for pair in field) == expected
    assert field.padded(shape) == (options.get("padding") != "VALID")
    view = units_of(activations, shape)
    assert view.respond(jnp.zeros((2, *view.noise_shape))).shape == (2, 3)
