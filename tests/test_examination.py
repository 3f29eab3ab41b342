"""What looks right and is not: each was once answered by wrong numbers without a word."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import classification_images, noise, responses, reverse_correlate, statistics
from wna_jax.correlation.fields import find_field
from wna_jax.noise import Noise
from wna_jax.noise.checks import check
from wna_jax.responses import weightings
from wna_jax.runs.errors import InputError
from wna_jax.runs.fingerprints import fingerprint

SHAPE = (4, 4, 1)
WHITE = noise.uniform(SHAPE)
WEIGHTS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


def linear(images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1) @ WEIGHTS


def of_batch(images: jax.Array) -> jax.Array:
    return linear(images) / linear(images).std(axis=0, keepdims=True)


@pytest.mark.parametrize("far", [-1000.0, -1e9, -jnp.inf])
def test_batch_statistics_show_beside_a_class_that_is_far_off(far: float) -> None:
    def network(images: jax.Array) -> jax.Array:
        return jnp.concatenate([of_batch(images)[:, :2], jnp.full((len(images), 1), far)], axis=1)

    with pytest.raises(InputError, match="depends on the other images of the batch"):
        reverse_correlate(WHITE, responses.of_classifier(network, ["decision"]), 10**9)


@pytest.mark.parametrize(
    "response", [of_batch, responses.of_response(of_batch, "probability"), responses.gradient_of(of_batch)]
)
def test_every_response_is_asked(response: Any) -> None:
    with pytest.raises(InputError, match="depends on the other images of the batch"):
        reverse_correlate(WHITE, response, 10**9)


def test_one_response_takes_its_outputs_for_what_they_are_said_to_be() -> None:
    def softmax(images: jax.Array) -> jax.Array:
        return jax.nn.softmax(linear(images))

    with pytest.raises(InputError, match="outputs are probabilities"):
        reverse_correlate(WHITE, responses.of_response(softmax, "probability"), 2_000)
    ours = reverse_correlate(WHITE, responses.of_response(softmax, "probability", outputs="probabilities"), 2_000)
    theirs = reverse_correlate(WHITE, responses.of_response(linear, "probability"), 2_000)
    np.testing.assert_allclose(ours.weight_sum, theirs.weight_sum, rtol=1e-5)


@pytest.mark.parametrize("outputs", ["probabilities", "sigmoid"])
def test_outputs_that_are_not_what_is_said_are_refused(outputs: str) -> None:
    numbers = 1 if outputs == "sigmoid" else 3
    respond = responses.of_classifier(lambda x: linear(x)[:, :numbers], outputs=outputs)
    with pytest.raises(InputError, match=rf"outputs is '{outputs}', and the network returned -?\d"):
        reverse_correlate(WHITE, respond, 2_000)


def test_rounding_is_no_change_of_mind() -> None:
    rng = np.random.default_rng(0)
    clean = np.asarray(WEIGHTS)

    def on_a_gpu(images: np.ndarray) -> np.ndarray:
        answers = images.reshape(len(images), -1) @ clean
        return answers + 1e-7 * rng.normal(size=answers.shape)

    ours = reverse_correlate(WHITE, responses.of_black_box(on_a_gpu), 2_000)["decision"]
    theirs = reverse_correlate(WHITE, responses.of_classifier(linear), 2_000)["decision"]
    np.testing.assert_array_equal(ours.count, theirs.count)


def cell(code: str, **names: Any) -> dict[str, Any]:
    """A cell of a notebook, and what it defines."""
    here: dict[str, Any] = {"__name__": "__main__"} | names
    exec(compile(code, "<cell>", "exec"), here)
    return here


def test_a_network_that_was_changed_is_asked_anew() -> None:
    """In a notebook the same function answers otherwise once a global is another."""
    here = cell("def f(x): return x.reshape(len(x), -1) @ weights", weights=WEIGHTS)
    before = reverse_correlate(WHITE, responses.of_classifier(here["f"]), 2_000)["decision"]
    here["weights"] = -WEIGHTS
    after = reverse_correlate(WHITE, responses.of_classifier(here["f"]), 2_000)["decision"]
    expected = reverse_correlate(WHITE, responses.of_classifier(lambda x: -linear(x)), 2_000)["decision"]
    np.testing.assert_array_equal(after.count, expected.count)
    assert (before.count != after.count).any()
    with pytest.raises(InputError, match="two networks"):
        before + after


def test_the_code_of_a_class_is_part_of_its_fingerprint() -> None:
    source = "class Net:\n  scale = {0}\n  def __call__(self, x): return {1}x.reshape(len(x), -1)[:, :3] * self.scale"
    nets = [cell(source.format(*of))["Net"]() for of in (("1.0", ""), ("1.0", "-"), ("2.0", ""), ("1.0", ""))]
    known = [fingerprint(net) for net in nets]
    assert known[0] == known[3]
    assert len(set(known)) == 3


def test_trees_without_a_dict_are_told_apart() -> None:
    from sklearn.tree import DecisionTreeClassifier

    x = np.random.default_rng(0).random((200, 4))
    first, second, again = (DecisionTreeClassifier(random_state=0).fit(x, x[:, k] > 0.5) for k in (0, 1, 0))
    assert fingerprint(first) == fingerprint(again) != fingerprint(second)


def test_dependence_without_correlation_is_no_white_noise() -> None:
    def of_two_contrasts(key: jax.Array) -> jax.Array:
        which, pixels = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(which), 0.2, 1.4) * jax.random.normal(pixels, (8, 8, 1))

    declared: Callable[..., Noise] = lambda white: Noise(  # noqa: E731
        "two contrasts", (8, 8, 1), np.zeros(1), np.ones(1), of_two_contrasts, white=white
    )
    with pytest.raises(InputError, match=r"the squares of pixels have the correlation 0\.\d+: declare white=False"):
        check(declared(True))
    check(declared(False))


@pytest.mark.parametrize("size", [1e-4, 1.0, 2000.0])
def test_a_bias_by_position_shows_whatever_the_scale_of_the_logits(size: float) -> None:
    kernel = np.random.default_rng(0).normal(size=(4, 4, 1, 3)).astype(np.float32)

    def valid(images: jax.Array) -> jax.Array:
        dimensions = ("NHWC", "HWIO", "NHWC")
        maps = jax.lax.conv_general_dilated(images, jnp.asarray(kernel), (1, 1), "VALID", dimension_numbers=dimensions)
        return maps[:, 0, 0] if maps.shape[1:3] == (1, 1) else maps

    def biased(images: jax.Array) -> jax.Array:
        maps = valid(images)
        odd = jnp.arange(maps.shape[1], dtype=jnp.float32) % 2 if maps.ndim == 4 else jnp.zeros(1)
        odd = odd.reshape(1, -1, 1, 1) if maps.ndim == 4 else odd.reshape(1, 1)
        return size * (maps + 0.9 * odd * jnp.array([1.0, 0, 0]).reshape((1,) * (maps.ndim - 1) + (3,)))

    assert not isinstance(find_field(WHITE, responses.of_classifier(lambda x: size * valid(x))), str)
    assert "its answer to a window depends on" in str(find_field(WHITE, responses.of_classifier(biased)))


def test_numbers_may_be_those_of_numpy_and_must_be_whole(tmp_path: Path) -> None:
    numbers: Any = {"num_samples": np.int64(600), "seed": np.int64(1)}
    whole = reverse_correlate(WHITE, responses.of_classifier(linear), state_dir=tmp_path / "state", **numbers)
    assert whole["decision"].count.sum() == 600
    wrong: Any
    for wrong, said in (({"seed": 1.5}, "seed is 1.5"), ({"num_samples": 2e3}, "num_samples is 2000.0")):
        with pytest.raises(InputError, match=f"{said}: it must be a whole number"):
            reverse_correlate(WHITE, responses.of_classifier(linear), **wrong)
    classes = reverse_correlate(WHITE, responses.of_classifier(linear, classes=np.array([2, 0])), 600)["decision"]
    np.testing.assert_array_equal(classes.count, whole_of(linear, 600)[[2, 0]])
    wrong_classes: Any
    for wrong_classes in (["a"], [0.7], [False, True], [0, 0]):
        with pytest.raises(InputError, match="expected their numbers from 0 on, each once"):
            weightings.known_classes.__wrapped__(wrong_classes)  # type: ignore[attr-defined] # but for checked types


def whole_of(network: Callable, count: int) -> np.ndarray:
    return reverse_correlate(WHITE, responses.of_classifier(network), count)["decision"].count


def test_a_file_in_the_place_of_a_state_is_said_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("notes")
    with pytest.raises(InputError, match="is a file where a state would be kept"):
        reverse_correlate(WHITE, responses.of_classifier(linear), 600, state_dir=tmp_path / "state")


def test_maps_are_made_with_the_noise_of_their_samples() -> None:
    moments = reverse_correlate(WHITE, responses.of_classifier(linear), 600)["decision"]
    for other in (noise.gaussian(SHAPE), noise.uniform((4, 4, 3))):
        with pytest.raises(InputError, match="give the noise of the samples"):
            classification_images(moments, other)


def test_too_few_permutations_for_anything_to_be_significant_are_refused() -> None:
    moments = reverse_correlate(WHITE, responses.of_classifier(linear), 600)["decision"]
    maps = classification_images(moments, WHITE)
    with pytest.raises(InputError, match=r"permutations is 10: at alpha 0\.05 nothing can be significant below 19"):
        statistics.findings(maps, permutations=10)


def test_tensors_of_other_frameworks_are_told_apart() -> None:
    """They have types of their own, which JAX does not know, and NumPy refuses those with a gradient."""

    class Tensor:
        def __init__(self, values: list[float]) -> None:
            self.values, self.dtype = values, "theirs.float32"

        def detach(self) -> "Tensor":
            return self

        cpu = detach

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.array(self.values, dtype)

    assert fingerprint(Tensor([1.0, 2.0])) == fingerprint(Tensor([1.0, 2.0])) != fingerprint(Tensor([1.0, 3.0]))
