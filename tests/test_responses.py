import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wna_jax import data, draw_samples, noise, responses, reverse_correlate
from wna_jax.maps import gradient_images, regression_images
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress

LOGITS = jnp.array([[1.0, 3.0, 2.0], [0.0, -1.0, 0.0], [jnp.nan, 1.0, 2.0]])


def test_decision_is_the_largest_logit_and_the_first_of_equals() -> None:
    np.testing.assert_array_equal(responses.decision(LOGITS[:2]), [[0, 1, 0], [1, 0, 0]])


def test_probability_is_the_softmax() -> None:
    exponentials = np.exp(np.asarray(LOGITS[:2], np.float64))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(responses.probability(LOGITS[:2]), expected, rtol=1e-6)


@pytest.mark.parametrize("response", [responses.decision, responses.probability])
def test_nan_logits_are_not_hidden_by_argmax(response: responses.Weighting) -> None:
    assert np.isnan(response(LOGITS)[2]).all()
    assert np.isfinite(response(LOGITS)[:2]).all()


def test_of_classifier_gives_the_named_responses_of_one_pass() -> None:
    images = jax.random.normal(jax.random.key(0), (5, 2, 2, 1))
    flatten = lambda x: x.reshape(len(x), -1)  # noqa: E731
    answers = responses.of_classifier(flatten, ["probability", "decision"])(images)
    assert list(answers) == ["probability", "decision"]
    np.testing.assert_array_equal(answers["decision"], responses.decision(flatten(images)))
    np.testing.assert_array_equal(answers["probability"], responses.probability(flatten(images)))


def test_the_responses_are_what_their_names_say() -> None:
    logits = jax.random.normal(jax.random.key(0), (200, 3))
    p = np.asarray(jax.nn.softmax(logits))
    hard = np.eye(3)[p.argmax(axis=1)]
    for name, expected in [
        ("probability:4", jax.nn.softmax(4 * logits)),
        ("confident:0.6", hard * (p > 0.6)),
        ("confident", hard),  # the winner of three always has more than .3
        ("confidence", hard * p),
        ("logit", logits),
        ("decision", hard),
        ("probability", p),
    ]:
        np.testing.assert_allclose(responses.from_name(name)(logits), expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("probability:0", "expected a number between 0 and inf, such as probability:0.9"),
        ("confident:1", "expected a number between 0 and 1"),
        ("confident:x", "expected a number between 0 and 1"),
        ("decision:2", "decision takes no number, write decision"),
        ("loudness:2", "unknown response 'loudness:2'"),
    ],
)
def test_wrong_names_and_numbers_are_named(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        responses.from_name(name)


@pytest.mark.slow
def test_a_sharp_gradient_map_and_the_map_of_the_same_response_agree_within_their_errors(network: Callable) -> None:
    """Stein's identity in all ten classes: 7,840 differences of two independent runs over their standard error."""
    white = noise.gaussian((28, 28, 1), 0.3, 0.3)

    def weights(images: jax.Array) -> jax.Array:
        return responses.probability(network(images))

    slopes = regression_images(reverse_correlate(white, weights, 100_000, seed=1), white)
    gradients = gradient_images(reverse_correlate(white, responses.gradient_of(weights), 1_000, seed=2))
    z = (slopes.images - gradients.images) / np.ma.sqrt(slopes.standard_error**2 + gradients.standard_error**2)
    assert z.shape == (10, 28, 28, 1)
    for k in range(10):
        assert np.corrcoef(slopes.images[k].ravel(), gradients.images[k].ravel())[0, 1] > 0.9
        assert np.std(z[k]) == pytest.approx(1, abs=0.12)
        assert np.abs(z[k]).max() < 5


def test_a_scikit_learn_classifier_is_analysed_as_a_black_box(digits: data.Dataset) -> None:
    from sklearn.linear_model import RidgeClassifier

    images = digits.train.images[:, ::4, ::4].reshape(len(digits.train.labels), -1) / 255
    model = RidgeClassifier().fit(images, digits.train.labels)
    white = noise.gaussian((7, 7, 1), 0.4, 0.3)

    def logits_on_the_host(images: np.ndarray) -> np.ndarray:
        assert isinstance(images, np.ndarray)
        return model.decision_function(images.reshape(len(images), -1))

    weights, bias = model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)
    traced = responses.of_classifier(lambda x: x.reshape(len(x), -1) @ weights + bias[None])
    reports: list[Progress] = []
    ours = reverse_correlate(white, responses.of_black_box(logits_on_the_host), 6_100, report=reports.append)
    theirs = reverse_correlate(white, traced, 6_100)
    np.testing.assert_array_equal(ours["decision"].count, theirs["decision"].count)
    np.testing.assert_allclose(ours["probability"].sum, theirs["probability"].sum, rtol=1e-4)
    assert reports[-1].done == 6_100
    slopes = regression_images(
        reverse_correlate(white, responses.of_black_box(logits_on_the_host, ["logit"]), 6_100)["logit"], white
    )
    for k in range(10):  # a linear model's logit map is its weights
        assert np.corrcoef(slopes.images[k].ravel(), model.coef_[k])[0, 1] > 0.99


def of_pixels(images: Any) -> Any:
    return 3 * images.reshape(len(images), -1)[:, :3] - 1.5


def in_training_mode(images: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, (len(images), 3)), of_pixels(images), 0)


STRANGERS: dict[str, tuple[Callable[[jax.Array], jax.Array], str]] = {
    "sigmoid": (lambda x: jax.nn.sigmoid(of_pixels(x)[:, :1]), "returned one number per image.*outputs='sigmoid'"),
    "softmax": (lambda x: jax.nn.softmax(of_pixels(x)), "outputs are probabilities.*outputs='probabilities'"),
    "batch statistics": (
        lambda x: of_pixels(x) / of_pixels(x).std(axis=0, keepdims=True),
        "depends on the other images of the batch, .*: give it in evaluation mode",
    ),
    "dropout": (in_training_mode, "depends on the other images of the batch, .*: give it in evaluation mode"),
    "several labels": (lambda x: jax.nn.sigmoid(of_pixels(x)), "all lie between 0 and 1, as probabilities of several"),
    "one number": (lambda x: of_pixels(x)[:, 0], r"returned an array of shape \(\d,\) for .*: expected .*classes"),
    "another size": (
        lambda x: x.reshape(len(x), 7),
        "the network raised .*Error .*: cannot reshape array .*; expected",
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("of", [responses.of_classifier, responses.of_black_box])
def test_a_network_that_is_not_what_a_response_assumes_is_refused_before_the_run(of: Callable, name: str) -> None:
    network, said = STRANGERS[name]
    with pytest.raises(InputError, match=said):
        reverse_correlate(noise.uniform((2, 2, 1)), of(network), 10**9)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            lambda x: np.asarray(x).reshape(len(x), -1),
            "JAX cannot trace it; give a function of NumPy arrays to .*black_box",
        ),
        (lambda x: x.reshape(len(x), -1) * (1 if x.sum() > 0 else 2), "JAX cannot trace it"),
        (
            nn.Dense(3),
            "raised CallCompactUnboundModuleError .*networks.of_linen.module, variables., in evaluation mode",
        ),
        (lambda x: x.reshape(len(x), -1).astype(complex), "returned complex64 numbers: expected real logits"),
    ],
)
def test_what_no_jax_function_answers_is_told_the_way_out(network: Callable, said: str) -> None:
    with pytest.raises(InputError, match=said):
        reverse_correlate(noise.uniform((2, 2, 1)), responses.of_classifier(network), 10**9)


def test_a_network_that_fails_midway_is_gone_on_with(tmp_path: Path) -> None:
    """An error of somebody's server ends in one line, and the next call goes on where it was."""
    calls = itertools.count()

    def remote(images: np.ndarray) -> np.ndarray:
        if next(calls) == 5:  # three before the run
            raise ConnectionError("reset by peer")
        images *= 2  # the caller's images stay what they are
        return images.reshape(len(images), -1)[:, :3]

    white, options = noise.uniform((2, 2, 1)), {"batch_size": 100, "seed": 3}
    box = responses.of_black_box(remote, ["decision"])
    with pytest.raises(
        InputError, match=r"raised ConnectionError for images \(100, 2, 2, 1\): reset by peer"
    ) as refused:
        reverse_correlate(white, box, 1_000, state_dir=tmp_path, identity={}, **options)
    assert isinstance(refused.value.__cause__, ConnectionError)
    resumed = reverse_correlate(white, box, 1_000, state_dir=tmp_path, identity={}, **options)["decision"]
    assert next(calls) == 6 + 3 + 9  # the batch before the error was still under way
    fresh = reverse_correlate(white, responses.of_black_box(lambda x: x.reshape(len(x), -1)[:, :3]), 1_000, **options)
    np.testing.assert_array_equal(resumed.count, fresh["decision"].count)
    np.testing.assert_array_equal(resumed.sum, fresh["decision"].sum)


def test_a_flax_nnx_module_in_evaluation_mode_is_a_network(tmp_path: Path) -> None:
    class Normalised(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.norm, self.drop = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.out = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, images: jax.Array) -> jax.Array:
            return self.out(self.drop(self.norm(images.reshape(len(images), -1))))

    module = Normalised(nnx.Rngs(0))
    white = noise.uniform((2, 2, 1))
    with pytest.raises(InputError, match=r"the network raised TraceContextError .* in evaluation mode"):
        reverse_correlate(white, responses.of_classifier(module), 1_000)
    module.eval()
    moments = reverse_correlate(white, responses.of_classifier(module), 1_000, state_dir=tmp_path)["decision"]
    answers = module(draw_samples(white, 1_000)).argmax(axis=1)
    np.testing.assert_array_equal(moments.count, np.bincount(answers, minlength=3))


def test_what_cannot_be_called_is_refused_at_once() -> None:
    for of in (responses.of_classifier, responses.of_black_box):
        with pytest.raises(InputError, match=r"a ndarray cannot be called: expected a function of images, such as"):
            of.__wrapped__(np.ones((4, 3)))  # type: ignore[union-attr] # without the types that tests check


def test_a_black_box_that_changes_its_mind_is_refused() -> None:
    rng = np.random.default_rng(0)
    black_box = responses.of_black_box(lambda x: rng.standard_normal((len(x), 3)))
    with pytest.raises(InputError, match="answers change when it is asked again"):
        reverse_correlate(noise.uniform((2, 2, 1)), black_box, 10**9)


def test_other_outputs_than_those_of_a_ready_response_are_refused() -> None:
    ready = responses.of_black_box(lambda x: x[:, 0, :2, 0])
    assert responses.of_network(ready) is ready
    with pytest.raises(InputError, match="outputs is 'sigmoid', and the response that is given has its own, logits"):
        responses.of_network(ready, outputs="sigmoid")


@pytest.mark.slow
def test_outputs_that_are_said_give_the_moments_of_logits() -> None:
    white = noise.uniform((2, 2, 1))

    def probabilities(of: Callable, **outputs: Any) -> dict[str, Any]:
        return reverse_correlate(white, responses.of_classifier(of, **outputs), 3_000)

    def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        for name in ("decision", "probability"):
            np.testing.assert_allclose(ours[name].weight_sum, theirs[name].weight_sum, rtol=1e-5)
            np.testing.assert_allclose(ours[name].sum, theirs[name].sum, rtol=1e-5)

    logits = probabilities(of_pixels)
    same(probabilities(lambda x: jax.nn.softmax(of_pixels(x)), outputs="probabilities"), logits)
    two = probabilities(lambda x: of_pixels(x)[:, :2])
    difference = lambda x: (of_pixels(x)[:, 1] - of_pixels(x)[:, 0])[:, None]  # noqa: E731
    same(probabilities(difference, outputs="logit"), two)
    same(probabilities(lambda x: jax.nn.sigmoid(difference(x)), outputs="sigmoid"), two)
    with pytest.raises(InputError, match="outputs is 'sigmoid', and the network returned 3 numbers per image"):
        probabilities(of_pixels, outputs="sigmoid")
    with pytest.raises(InputError, match="unknown kind of outputs 'logis'"):
        probabilities(of_pixels, outputs="logis")


def test_black_boxes_that_answer_wrongly_are_named() -> None:
    white = noise.uniform((4, 4, 1))
    for answer, said in [
        (lambda x: x, r"the black box returned an array of shape \(9, 4, 4, 1\) .*: expected \(9, classes\)"),
        (lambda x: "cat", "the black box returned a str: expected a NumPy array of numbers"),
        (
            lambda x: 1 / 0,
            "the network raised ZeroDivisionError .*: division by zero; expected a function of NumPy images",
        ),
        (lambda x: np.full((len(x), 3), np.nan), "NaN, infinite or far too large"),
    ]:
        with pytest.raises(InputError, match=said):
            reverse_correlate(white, responses.of_black_box(answer), 100)
    with pytest.raises(InputError, match="black boxes and gradients answer single images alone"):
        reverse_correlate(white, responses.of_black_box(lambda x: x[:, 0, :, 0]), 100, sampling="field")


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match=r"unknown response 'decison' \(did you mean 'decision'\?\)"):
        responses.of_classifier(lambda x: x, ["decison"])
    with pytest.raises(InputError, match="no response given: choose from decision, probability"):
        responses.of_classifier(lambda x: x, [])
    images = jnp.zeros((5, 2, 2, 1))
    for wrong, said in [
        (lambda x: x[..., 0], r"an array of shape \(5, 2, 2\)"),
        (lambda x: x.reshape(-1, 2), r"an array of shape \(10, 2\)"),
        (lambda x: [1, 2], "a list"),
    ]:
        with pytest.raises(
            InputError, match=rf"returned {said} for images .*: expected logits of shape \(5, classes\)"
        ):
            responses.of_classifier(wrong)(images)


@pytest.mark.parametrize("name", responses.NAMES)
@pytest.mark.parametrize("broken", [jnp.nan, jnp.inf])
def test_what_is_no_number_is_never_counted_for_or_against_a_class(name: str, broken: float) -> None:
    logits = jnp.array([[1.0, broken, 0.0], [0.0, -jnp.inf, 5.0]])
    weights = responses.from_name(name)(logits)
    assert not jnp.isfinite(weights[0]).all()
    assert jnp.isfinite(weights[1]).all() or name in ("logit", "value")


def test_whole_numbers_are_answers_like_others() -> None:
    def votes(images: np.ndarray) -> np.ndarray:
        return (10 * images.reshape(len(images), -1)[:, :3]).astype(np.uint8)

    moments = reverse_correlate(noise.uniform((2, 2, 1)), responses.of_black_box(votes), 1_000)
    assert moments["decision"].count.min() > 200


def test_any_network_goes_through_one_door() -> None:
    white = noise.uniform((2, 2, 1))
    through = responses.of_network(of_pixels, ["decision"], classes=[2])
    direct = responses.of_classifier(of_pixels, ["decision"], classes=[2])
    ours, theirs = (reverse_correlate(white, each, 1_000)["decision"] for each in (through, direct))
    np.testing.assert_array_equal(ours.sum, theirs.sum)
    for ready in (direct, responses.of_black_box(of_pixels), responses.gradient_of(of_pixels)):
        assert responses.of_network(ready) is ready
    with pytest.raises(InputError, match=r"a list cannot be called: expected a function of images"):
        responses.of_network([1, 2])


def test_logits_are_asked_of_networks_and_of_their_responses() -> None:
    images = np.random.default_rng(0).uniform(size=(5, 2, 2, 1)).astype(np.float32)
    expected = of_pixels(images)
    for asked in (
        of_pixels,
        responses.of_classifier(of_pixels, ["probability:4"], classes=[1]),
        responses.of_response(of_pixels, "decision"),
        responses.of_black_box(of_pixels),
    ):
        np.testing.assert_allclose(responses.logits_of(asked, images), expected, rtol=1e-6)
    log_p = responses.logits_of(
        responses.of_black_box(lambda x: np.asarray(jax.nn.softmax(of_pixels(x))), outputs="probabilities"), images
    )
    np.testing.assert_allclose(jax.nn.softmax(log_p), jax.nn.softmax(expected), rtol=1e-5)
    with pytest.raises(InputError, match="a Gradient has no logits: give its network"):
        responses.logits_of(responses.gradient_of(of_pixels), images)


def test_labels_are_decided_each_by_itself() -> None:
    white = noise.uniform((2, 2, 1))
    images = np.asarray(draw_samples(white, 2_000))
    p = np.asarray(jax.nn.sigmoid(of_pixels(images)), np.float64)
    expected = {"decision": 1.0 * (p > 0.5), "probability": p, "confident:0.7": 1.0 * (p > 0.7)}
    assert ((p > 0.5).sum(axis=1) == 2).any()
    for network, outputs in ((of_pixels, "label_logits"), (lambda x: jax.nn.sigmoid(of_pixels(x)), "labels")):
        moments = reverse_correlate(white, responses.of_classifier(network, list(expected), outputs), 2_000)
        for name, weights in expected.items():
            np.testing.assert_allclose(moments[name].weight_sum, weights.sum(axis=0), rtol=1e-5, err_msg=name)
            sums = np.einsum("nk,nhwc->khwc", weights, images)
            np.testing.assert_allclose(moments[name].sum, sums, rtol=1e-4, err_msg=name)
        ready = responses.of_classifier(network, outputs=outputs)
        np.testing.assert_allclose(responses.probabilities_of(ready, images), p, rtol=1e-4)
    with pytest.raises(InputError, match=r"outputs is 'labels', and the network returned .*: expected numbers from 0"):
        reverse_correlate(white, responses.of_classifier(of_pixels, outputs="labels"), 100)


def test_the_map_of_a_regression_is_its_slope() -> None:
    white, slopes = noise.uniform((2, 2, 1)), np.array([[3.0, -1.0, 0.0, 0.5]], np.float32)
    network = responses.of_network(lambda x: x.reshape(len(x), -1) @ slopes.T - 7, ["value"], outputs="value")
    found = regression_images(reverse_correlate(white, network, 100_000)["value"], white)
    np.testing.assert_allclose(found.images.reshape(1, 4), slopes, atol=5 * found.standard_error.max())
    assert found.standard_error.max() < 0.05
    for names, outputs in ((["decision"], "value"), (["value"], "logits"), (["value", "logit"], "value")):
        with pytest.raises(InputError, match=r"outputs='value' has the response value alone"):
            responses.of_network(of_pixels, names, outputs=outputs)
    with pytest.raises(InputError, match=r"outputs='value' of a regression"):
        reverse_correlate(white, responses.of_classifier(lambda x: of_pixels(x)[:, :1]), 100)
