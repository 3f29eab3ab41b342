import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import responses
from wna_jax.errors import InputError

LOGITS = jnp.array([[1.0, 3.0, 2.0], [0.0, -1.0, 0.0], [jnp.nan, 1.0, 2.0]])


def test_decision_is_the_largest_logit_and_the_first_of_equals() -> None:
    np.testing.assert_array_equal(responses.decision(LOGITS[:2]), [[0, 1, 0], [1, 0, 0]])


def test_probability_is_the_softmax() -> None:
    exponentials = np.exp(np.asarray(LOGITS[:2], np.float64))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(responses.probability(LOGITS[:2]), expected, rtol=1e-6)


@pytest.mark.parametrize("response", [responses.decision, responses.probability])
def test_nan_logits_are_not_hidden_by_argmax(response: responses.Response) -> None:
    assert np.isnan(response(LOGITS)[2]).all()
    assert np.isfinite(response(LOGITS)[:2]).all()


def test_of_classifier_gives_the_named_responses_of_one_pass() -> None:
    images = jax.random.normal(jax.random.key(0), (5, 2, 2, 1))
    flatten = lambda x: x.reshape(len(x), -1)  # noqa: E731
    answers = responses.of_classifier(flatten, ["probability", "decision"])(images)
    assert list(answers) == ["probability", "decision"]
    np.testing.assert_array_equal(answers["decision"], responses.decision(flatten(images)))
    np.testing.assert_array_equal(answers["probability"], responses.probability(flatten(images)))


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
