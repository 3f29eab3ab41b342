from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from wna_jax.data import Dataset, Split
from wna_jax.networks import Network, models, training
from wna_jax.networks.models.convolutional import PooledNetwork
from wna_jax.networks.training import Trained, TrainingSpec, fit, predict
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress


def spec(digits: Dataset, **changes: object) -> TrainingSpec:
    return TrainingSpec(**({"dataset": "digits", "fingerprint": digits.fingerprint, "model": "logistic"} | changes))  # type: ignore[arg-type]


def own_accuracy(digits: Dataset, module: nn.Module, trained: Trained) -> float:
    """The test accuracy of trained parameters."""
    logits = predict(Network(module, trained.parameters), digits.test_images)
    return float(np.mean(logits.argmax(axis=-1) == digits.test.labels))


@pytest.mark.slow
def test_the_paper_network_learns_digits_and_its_metrics_are_those_of_its_parameters(digits: Dataset) -> None:
    reports: list[Progress] = []
    trained = fit(spec(digits, model="paper_cnn", epochs=6), digits, reports.append)
    assert trained.metrics["test_accuracy"] > 0.96
    module = models.create("paper_cnn", digits.image_shape, 10)
    assert trained.metrics["test_accuracy"] == own_accuracy(digits, module, trained)
    history = trained.metrics["epochs"]
    best = max(row["validation_accuracy"] for row in history)
    assert (
        trained.metrics["validation_accuracy"]
        == best
        == history[trained.metrics["best_epoch"] - 1]["validation_accuracy"]
    )
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert reports[-1].done == reports[-1].total


def test_the_same_spec_gives_the_same_parameters_and_another_seed_others(digits: Dataset) -> None:
    first, again, other = (fit(spec(digits, epochs=2, seed=seed), digits) for seed in (1, 1, 2))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first.parameters, again.parameters))
    assert not jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first.parameters, other.parameters))


def test_the_test_set_is_classified_once_and_with_the_best_parameters(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([0.5, 0.9, 0.7])
    seen = []

    def evaluate(network: Network, split: object) -> dict[str, float]:
        seen.append((split is digits.test, network.parameters))
        return {"accuracy": 0.1 if split is digits.test else next(scripted), "loss": 1.0}

    monkeypatch.setattr(training, "evaluate", evaluate)
    trained = fit(spec(digits, epochs=3), digits)
    assert [is_test for is_test, _ in seen] == [False, False, False, True]
    assert trained.metrics["best_epoch"] == 2
    jax.tree.map(np.testing.assert_array_equal, trained.parameters, seen[1][1])
    assert seen[3][1] is seen[1][1] is not seen[2][1]


def test_the_history_has_the_mean_over_the_steps_of_an_epoch(digits: Dataset) -> None:
    still = spec(digits, epochs=1, batch_size=len(digits.train.labels) // 5, peak_learning_rate=1e-12)
    (row,) = fit(still, digits).metrics["epochs"]
    untrained = training.evaluate(models.untrained("logistic", digits.image_shape, 10), digits.train)
    assert row["train_loss"] == pytest.approx(untrained["loss"], rel=1e-5)
    assert row["train_accuracy"] == pytest.approx(untrained["accuracy"], rel=1e-5)


@pytest.mark.slow
def test_a_network_of_batch_normalisation_and_dropout_learns_and_is_tested_as_it_is_kept(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = partial(PooledNetwork, blocks=((8,), (16,)), width=64, normalised=True, dropout=(0.0, 0.0, 0.3))
    monkeypatch.setitem(models._REGISTRY, "narrow", narrow)
    small = digits.resized(16)
    trained = fit(spec(small, model="narrow", epochs=5, augmentation="flip_shift"), small)
    assert trained.metrics["test_accuracy"] > 0.6
    module = models.create("narrow", small.image_shape, 10)
    assert trained.metrics["test_accuracy"] == own_accuracy(small, module, trained)


def test_trainings_that_differ_by_seed_share_a_program(digits: Dataset) -> None:
    before = training._step_of.cache_info().misses
    first, other = (fit(spec(digits, epochs=2, seed=seed), digits) for seed in (1, 2))
    assert training._step_of.cache_info().misses <= before + 1
    assert first.metrics["epochs"] != other.metrics["epochs"]


def test_an_epoch_in_one_program_takes_the_same_steps(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator."""
    step_by_step = fit(spec(digits, model="logistic", epochs=2), digits)
    monkeypatch.setattr(training, "_one", training._in_a_scan)
    monkeypatch.setattr(training, "_steps_together", lambda steps: steps)
    at_once = fit(spec(digits, model="logistic", epochs=2), digits)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), step_by_step.parameters, at_once.parameters)
    assert at_once.metrics["epochs"][1]["train_loss"] == pytest.approx(step_by_step.metrics["epochs"][1]["train_loss"])


def test_seven_images_are_enough_to_train_on(digits: Dataset) -> None:
    few = replace(digits, train=Split(*(part[:7] for part in digits.train)))
    assert len(fit(spec(digits, epochs=1), few).metrics["epochs"]) == 1


def test_wrong_input_is_named(digits: Dataset) -> None:
    with pytest.raises(InputError, match="epochs is 0: it must be above 0"):
        spec(digits, epochs=0)
    with pytest.raises(
        InputError, match=r"unknown augmentation 'flipp' \(did you mean 'flip'\?\): choose one of flip, sh"
    ):
        spec(digits, augmentation="flipp_shift")
    with pytest.raises(InputError, match=r"diverged in epoch 1 .* lower it"):
        fit(spec(digits, model="mlp", epochs=3, peak_learning_rate=1e18), digits)
