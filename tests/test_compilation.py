"""Networks, noises and responses are values: programs are compiled for their kind, and not for each of them."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from wna_jax import noise, responses, reverse_correlate
from wna_jax.correlation.fields import find_field
from wna_jax.networks import Network, units, untrained
from wna_jax.runs import compilation
from wna_jax.studies import interventions


@contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of the programs that are compiled in the context."""
    names: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text.startswith("Compiling "):
                names.append(text.split()[1])

    handler, log = Note(), logging.getLogger("jax._src.interpreters.pxla")
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        with jax.log_compiles(True):
            yield names
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def a_network(seed: int) -> Network:
    return untrained("paper_cnn", (18, 17, 1), 3, seed)


@pytest.mark.parametrize("sampling", ["independent", "field"])
def test_five_networks_of_one_architecture_compile_the_noise_program_once(sampling: Any) -> None:
    counts, compiled = [], []
    for seed in range(5):
        white = noise.gaussian((18, 17, 1), 0.1 * seed, 0.3)  # another noise of the same kind, too
        with compilations() as names:
            respond = responses.of_classifier(a_network(seed))
            moments = reverse_correlate(white, respond, 2_000, batch_size=1_024, sampling=sampling)
        counts.append(moments["decision"].count.tolist())
        compiled.append(sum("moments" in name for name in names))
    assert compiled == [1, 0, 0, 0, 0]
    assert len({str(count) for count in counts}) == 5  # the programs are shared, the parameters are not


def test_the_answers_of_networks_are_counted_by_one_program() -> None:
    images = np.random.default_rng(0).random((20, 18, 17, 1), np.float32)
    labels = np.zeros(20, np.int64)
    with compilations() as names:
        hits = [
            interventions.hits(network, Partial(interventions.fgsm, network), [0.0, 0.1], (images, labels), labels)
            for network in map(a_network, range(4))
        ]
    assert sum("_right" in name for name in names) == 1
    assert len({tuple(h) for h in hits}) > 1


def test_a_network_is_a_pytree_of_its_parameters() -> None:
    network, images = a_network(0), jnp.ones((2, 18, 17, 1))
    expected = jax.jit(network.module.apply)({"params": network.parameters}, images)
    np.testing.assert_array_equal(jax.jit(lambda network, x: network(x))(network, images), expected)
    gradient = jax.jit(jax.grad(lambda network: network(images).sum()))(network)
    assert isinstance(gradient, Network)
    assert len(jax.tree.leaves(network)) == len(jax.tree.leaves(network.parameters))


@pytest.mark.parametrize(
    "make",
    [
        lambda: noise.uniform((5, 4, 3)),
        lambda: noise.gaussian((5, 4, 3), 0.2, 0.1),
        lambda: noise.binary((5, 4, 3)),
        lambda: noise.stripes((5, 4, 3)),
        lambda: noise.blocks((5, 4, 3)),
        lambda: noise.uniform((5, 4, 3)).resized((9, 9)),
        lambda: responses.of_classifier(a_network(0), ["probability:4", "confident"]),
        lambda: responses.gradient_of(responses.of_response(a_network(0), "probability")),
        lambda: units.layer_activations(a_network(0), "conv1"),
    ],
)
def test_two_of_a_kind_have_one_structure(make: Callable[[], Any]) -> None:
    first, second = (compilation.take_apart(make())[1] for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


def test_what_is_static_decides_the_program() -> None:
    def structure(value: Any) -> compilation.Structure:
        return compilation.take_apart(value)[1]

    network = a_network(0)
    different = [
        noise.uniform((5, 4, 3)),
        noise.binary((5, 4, 3)),
        noise.uniform((5, 4, 1)),
        responses.of_classifier(network, ["decision"]),
        responses.of_classifier(network, ["probability"]),
        units.layer_activations(network, "conv1"),
        units.layer_activations(network, "conv2"),
        *(Partial(max, one) for one in (1, 1.0, True)),  # equal, and still not the same constant
    ]
    assert len({structure(value) for value in different}) == len(different)


def test_take_apart_is_undone_by_with_arrays() -> None:
    value = {"a": np.arange(3), "b": [len, "text", None, 2.5], "c": jnp.ones(2)}
    arrays, structure = compilation.take_apart(value)
    assert len(arrays) == 2
    again = structure.with_arrays(arrays)
    assert again["b"] == value["b"]
    np.testing.assert_array_equal(again["a"], value["a"])


def test_a_function_that_cannot_be_hashed_equals_itself_alone() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, x: jax.Array) -> jax.Array:
            return 2 * x

    one, two = Unhashable(), Unhashable()
    assert compilation.take_apart(one)[1] == compilation.take_apart(one)[1] != compilation.take_apart(two)[1]
    np.testing.assert_array_equal(compilation.jit(lambda f, x: f(x))(one, jnp.ones(2)), [2, 2])


def test_the_geometry_of_a_field_is_searched_once_for_an_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    white = noise.uniform((20, 18, 1))
    networks = [untrained("paper_cnn", (20, 18, 1), 3, seed) for seed in range(2)]
    first = find_field(white, networks[0])
    with compilations() as names:
        assert find_field(white, networks[1]) == first
    assert not any("answers" in name for name in names)
