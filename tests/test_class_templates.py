from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats

from experiments import launch, training_templates
from wna_jax import data, figures, noise, statistics
from wna_jax.correlation import reverse_correlate_in_parts
from wna_jax.runs.errors import InputError
from wna_jax.studies import class_templates, ensembles

SHAPE, CLASSES, SEEDS = (8, 8, 1), 4, 3
WHITE = noise.gaussian(SHAPE, 0.0, 1.0)
RUNS, REGIMES = 1_000, 5


def simplex(seed: int, beside: np.ndarray | None = None) -> np.ndarray:
    """A pattern per class, of length 1 and mean 0, all at one angle, orthogonal to those beside them: [K, D]."""
    taken = [np.ones(64), *(beside if beside is not None else [])]
    drawn = np.random.default_rng(seed).standard_normal((CLASSES, 64))
    axes = np.linalg.qr(np.concatenate([taken, drawn]).T)[0].T[-CLASSES:]
    patterns = axes - axes.mean(axis=0)
    return patterns / np.linalg.norm(patterns, axis=1, keepdims=True)


DIFFERENCES = simplex(0)


def linear(templates: jax.Array, images: jax.Array) -> jax.Array:
    return jnp.dot(images.reshape(len(images), -1), templates.T, precision="highest")


def with_agreement(planted: float, seed: int) -> Partial:
    """A linear network whose templates have this correlation with the class differences."""
    templates = planted * DIFFERENCES + np.sqrt(1 - planted**2) * simplex(seed, DIFFERENCES)
    return Partial(linear, jnp.asarray(2 * templates, jnp.float32))


def measured(planted: float, first_seed: int) -> tuple[np.ma.MaskedArray, np.ma.MaskedArray]:
    """The agreement of a few networks' maps of 500 samples with the classes, corrected for noise and not."""
    networks = [with_agreement(planted, seed) for seed in range(first_seed, first_seed + SEEDS)]
    noises = ensembles.side_by_side(WHITE, SEEDS)
    together = ensembles.of_networks(networks, ["probability"])
    parts = reverse_correlate_in_parts(noises, together, 500, sampling="independent")
    agreed = ensembles.agreement_of_halves(parts.first["probability"], parts.second["probability"], WHITE, SEEDS)
    differences = DIFFERENCES.reshape(CLASSES, *SHAPE)
    exact = agreed._replace(reliability=np.ma.ones(agreed.reliability.shape))
    return class_templates.with_classes(agreed, differences), class_templates.with_classes(exact, differences)


def test_planted_templates_are_found_and_ranked_as_they_agree_with_the_classes() -> None:
    planted = {"first": 0.5, "more": 0.8, "all": 1.0, "same": 0.5}
    both = {name: measured(of, 1 + 10 * i) for i, (name, of) in enumerate(planted.items())}
    for name, (of, uncorrected) in both.items():
        assert of.shape == (SEEDS, CLASSES)
        assert of.mean() == pytest.approx(planted[name], abs=0.04)
        assert uncorrected.mean() < 0.95 * planted[name]
    found = class_templates.compare({name: of for name, (of, _) in both.items()})
    assert found is not None
    assert found.classes.all()
    assert found.differences["all"].mean > found.differences["more"].mean > 0.2
    assert max(found.adjusted["more"], found.adjusted["all"]) < 0.05 < found.adjusted["same"]


def test_the_paired_test_is_that_of_scipy_and_holm_that_of_the_paper() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 6))
    ours, expected = statistics.paired_difference(a, b), stats.ttest_rel(a, b)
    assert ours.p == pytest.approx(expected.pvalue)
    assert (ours.low, ours.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(statistics.holm([0.6, 0.9]), [1, 1])
    assert statistics.paired_difference([1.0, 2.0], [1.0, 2.0]).p == 1
    assert statistics.paired_difference([2.0, 3.0], [1.0, 2.0]).p == 0


def test_regimes_that_are_alike_are_told_apart_in_one_of_twenty_studies_and_others_in_most() -> None:
    """Agreements of five seeds, of which networks of one seed share a part: 1,000 studies of four tests each."""
    random = np.random.default_rng(0)
    of_seeds = random.standard_normal((RUNS, 1, 5, 1)) * 0.02
    alike = np.ma.masked_array(0.6 + of_seeds + 0.03 * random.standard_normal((RUNS, REGIMES, 5, 10)))
    false, alone = 0, 0
    for study in alike:
        found = class_templates.compare({f"{i}": of for i, of in enumerate(study)})
        assert found is not None
        false += min(found.adjusted.values()) <= 0.05
        alone += found.differences["1"].p <= 0.05
    margin = 3 * np.sqrt(0.05 * 0.95 / RUNS)
    assert alone / RUNS == pytest.approx(0.05, abs=margin)
    assert 0.01 < false / RUNS < 0.05 + margin  # the four tests share their reference: Holm is conservative
    found_out = 0
    for study in alike[:100]:
        found = class_templates.compare({f"{i}": of + 0.05 * (i == 4) for i, of in enumerate(study)})
        assert found is not None
        found_out += found.adjusted["4"] <= 0.05
    assert found_out > 90


def test_a_class_counts_only_where_every_network_has_a_reliable_map() -> None:
    whole = np.ma.masked_array(np.random.default_rng(0).random((2, 3)))
    part = whole.copy()
    part[1, 2] = np.ma.masked
    found = class_templates.compare({"plain": whole, "noise:0.1": part})
    assert found is not None
    assert found.classes.tolist() == [True, True, False]
    np.testing.assert_allclose(found.values["plain"], whole[:, :2].mean(axis=1))
    assert class_templates.compare({"plain": whole, "blur:1": np.ma.masked_all((2, 3))}) is None
    with pytest.raises(InputError, match="1 regimes of training: expected two or more"):
        class_templates.compare({"plain": whole})


def test_class_differences_are_from_the_mean_of_all_training_images(digits: data.Dataset) -> None:
    differences = class_templates.class_differences(digits)
    grand = digits.train.images.mean(axis=0) / 255
    np.testing.assert_allclose(differences[3], digits.members(3).mean(axis=0) / 255 - grand, atol=1e-6)


def settings(network_settings: dict[str, Any], folder: Path, **changes: Any) -> training_templates.Settings:
    own: dict[str, Any] = {"regimes": ("plain", "noise:0.3"), "num_train_seeds": 2, "num_samples": 4_000}
    return training_templates.Settings(**(network_settings | own | {"out_dir": str(folder)} | changes))


@pytest.mark.slow
def test_the_experiment_measures_every_network(network_settings: dict[str, Any], tmp_path: Path) -> None:
    result = launch.execute(training_templates.run, settings(network_settings, tmp_path, test_noise=0.0, epsilon=0.0))
    metrics = result.metrics
    for regime in ("plain", "noise:0.3"):
        of = metrics["accuracies"][regime]
        assert len(of["clean"]) == 2
        assert of["clean"] == of["noise"] == of["FGSM"]  # no noise, no step
    found = metrics["responses"]["probability"]["comparison"]
    by_class = metrics["responses"]["probability"]["agreement_by_class"]["plain"]
    np.testing.assert_allclose(found["agreement"]["plain"], np.mean(by_class, axis=1), rtol=1e-3)
    assert found["adjusted_p"]["noise:0.3"] == found["difference"]["noise:0.3"]["p"]  # one test
    for name in ("training_templates.png", "maps_decision.png", "maps_probability.png", "maps.npz", "metrics.json"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.slow
def test_too_few_samples_are_said_and_nothing_is_compared(network_settings: dict[str, Any], tmp_path: Path) -> None:
    result = launch.execute(training_templates.run, settings(network_settings, tmp_path, num_samples=2))
    assert result.metrics["responses"]["decision"]["comparison"] is None
    assert "decision maps: no class has a reliable map in every network: add samples" in result.summary


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"regimes": ("plain",)}, "regimes is plain: give two or more to compare"),
        ({"regimes": ("plain", "nois:0.3")}, "unknown augmentation 'nois'"),
        ({"noise": "uniform/4"}, "has maps of other pixels than the classes"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_trained(
    wrong: dict[str, Any], said: str, network_settings: dict[str, Any], tmp_path: Path
) -> None:
    nowhere = tmp_path / "checkpoints"
    with pytest.raises(InputError, match=said):
        training_templates.run(settings(network_settings | {"checkpoint_dir": str(nowhere)}, tmp_path, **wrong))
    assert not nowhere.exists()


def test_the_figure_has_a_point_per_seed_and_says_what_is_said() -> None:
    drawn = np.random.default_rng(0).standard_normal((2, *SHAPE))
    maps = {
        "class": np.ma.masked_array(drawn),
        "plain": np.ma.masked_array(drawn),
        "blur:1": np.ma.masked_all(drawn.shape),
    }
    columns = {"agreement": {name: statistics.seed_mean([0.5, 0.6, 0.7]) for name in ("plain", "blur:1")}}
    said = {"agreement": {"plain": "0.60", "blur:1": "0.60, p 1"}}
    figure = figures.regimes(maps, ["zero", "one"], columns, said, "Title", "Note.")
    (ax,) = [ax for ax in figure.axes if ax.get_title("left") == "agreement"]
    points = [np.asarray(line.get_xdata()).tolist() for line in ax.lines if line.get_marker() == "o"]
    assert points == [[0.5, 0.6, 0.7]] * 2
    texts = [text.get_text() for each in figure.axes for text in each.texts]
    assert texts.count("no map") == 2
    assert {"zero", "one", "plain", "blur:1", "0.60, p 1"} <= set(texts)
