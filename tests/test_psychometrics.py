import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from wna_jax import noise, statistics
from wna_jax.networks import Network, units
from wna_jax.runs.errors import InputError
from wna_jax.studies import interventions, psychometrics
from wna_jax.studies.psychometrics import PsychometricCurve

WHITE = noise.gaussian((8, 8, 1), 0.5, 0.2)
TEMPLATE = np.zeros((8, 8, 1), np.float32)
TEMPLATE[2:5, 3:6] = [[[1], [-1], [2]]]
SIGNALS = [(0.5 + sign * TEMPLATE[None] / 4).astype(np.float32) for sign in (1, -1)]


def observer(images: jax.Array) -> jax.Array:
    """Answer 0 where the image agrees with the template."""
    match = jnp.einsum("nhwc,hwc->n", images - 0.5, TEMPLATE)
    return jnp.stack([match > 0, match <= 0], axis=-1).astype(jnp.float32)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_the_classification_image_of_a_linear_observer_is_its_template(weight: float) -> None:
    """Given the answer, z shifts along the template by s phi(d) / Phi(d), d the signal's distance in deviations."""
    found = psychometrics.discriminate(observer, WHITE, SIGNALS, weight, 10_000, batch_size=5_000).contrast
    norm = np.linalg.norm(TEMPLATE)
    d = weight * norm / 4 / ((1 - weight) * 0.2)
    expected = 2 * 0.2 * stats.norm.pdf(d) * (1 / stats.norm.cdf(d) + 1 / stats.norm.cdf(-d)) * TEMPLATE / norm
    of_noise, error = found.difference[0, ..., :1], found.standard_error[0, ..., :1]
    np.testing.assert_allclose(of_noise, expected, atol=float(5 * error.max()))
    unseen = found.z[0, ..., 0][TEMPLATE[..., 0] == 0]
    assert unseen.std() == pytest.approx(1, abs=0.3)
    significant = statistics.significant_pixels(found.z[..., :1], alpha=1e-4)[0]
    np.testing.assert_array_equal(significant, TEMPLATE != 0)


def test_an_answer_that_is_never_given_leaves_no_map() -> None:
    found = psychometrics.discriminate(observer, WHITE, SIGNALS, 1.0, 500, batch_size=5_000).contrast
    assert found.difference.count() == found.standard_error.count() == found.z.count() == 0


def test_the_curve_of_a_linear_observer_is_a_cumulative_normal() -> None:
    weights = [0.0, 0.1, 0.2, 1.0]
    curve = psychometrics.psychometric_curve(observer, WHITE, SIGNALS[1], 1, weights, num_stimuli=2_000)
    norm = np.linalg.norm(TEMPLATE)
    expected = [stats.norm.cdf(g * norm / 4 / ((1 - g) * 0.2)) if g < 1 else 1 for g in weights]
    assert curve.trials == 2_000
    np.testing.assert_allclose(curve.share, expected, atol=4 * 0.5 / np.sqrt(2_000))


def test_a_threshold_is_only_where_the_class_is_not_called_at_first_and_is_at_last() -> None:
    def threshold(*share: float) -> statistics.Threshold | None:
        return PsychometricCurve([0.0, 0.5, 1.0], np.array(share) * 1000, 1000).threshold(rising=True)

    assert threshold(0.2, 0.4, 0.8).at == pytest.approx(0.625)  # type: ignore[union-attr]
    assert threshold(0.8, 0.4, 0.8) is threshold(0.2, 0.6, 0.4) is None
    found = [[threshold(0.2, 0.4, 0.8), threshold(0.2, 0.6, 0.8)], [threshold(0.2, 0.4, 0.8), None]]
    assert psychometrics.mean_shifts(found) == [(0, 2), (pytest.approx(0.375 - 0.625), 1)]
    assert psychometrics.mean_shifts([[None, found[0][0]]]) == [None, None]


def test_a_choice_is_between_the_given_classes_alone(network: Network) -> None:
    images = jax.random.uniform(jax.random.key(0), (3, *network.image_shape))
    np.testing.assert_array_equal(units.only(network, [8, 3])(images), network(images)[:, np.array([8, 3])])


def test_a_curve_under_no_current_is_that_of_the_network(network: Network) -> None:
    images = np.asarray(jax.random.uniform(jax.random.key(0), (7, *network.image_shape)))
    size = jax.eval_shape(units.layer_activations(network, "fc1"), images).shape[-1]
    currents = np.stack([np.zeros(size), np.full(size, 10.0)]).astype(np.float32)
    background = noise.uniform(network.image_shape)
    wanted = int(np.asarray(network(jnp.asarray(images))).argmax(axis=-1)[0])
    under = psychometrics.curves_under_currents(
        network, "fc1", currents, background, images, wanted, [0.0, 1.0], seed=3
    )
    alone = psychometrics.psychometric_curve(network, background, images, wanted, [0.0, 1.0], seed=3)
    np.testing.assert_array_equal(under[0].hits, alone.hits)
    stimulated = units.stimulated(network, "fc1")(jnp.asarray(images), jnp.asarray(currents[1]))
    assert under[1].hits[1] == interventions.accuracy(lambda _: stimulated, images, np.full(7, wanted)) * 7


def test_currents_are_in_proportion_to_the_mean_activation_of_each_unit() -> None:
    means = np.array([[[[1.0, 3.0]], [[3.0, 5.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])  # of 2 x 1 positions: 2, 4 and 0, 0
    np.testing.assert_allclose(
        psychometrics.current_unit("mean", "fc9", 10).currents(means), np.array([[2, 4], [0, 0]])
    )
    divided, in_fc1 = (psychometrics.current_unit("authors", layer, 10) for layer in ("conv1", "fc1"))
    np.testing.assert_allclose(divided.currents(means), np.array([[0.05, 0.1], [0, 0]]))
    np.testing.assert_allclose(in_fc1.currents(means[:, 0, 0]), np.array([[0.01, 0.03], [0, 0]]))
    assert str(divided) == "strength x 0.1 x mean / largest mean"
    assert psychometrics.current_unit("authors", "conv1", 2) == (1.0, True)  # ten times as much for two classes
    with pytest.raises(InputError, match="no number for layer fc2: choose from conv1, conv2, fc1"):
        psychometrics.current_unit("authors", "fc2", 10)
