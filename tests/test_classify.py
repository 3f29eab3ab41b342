import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import classify
from experiments.launch import Result, execute
from wna_jax import statistics
from wna_jax.data import Dataset
from wna_jax.runs.errors import InputError

pytestmark = pytest.mark.slow  # whole experiments


@pytest.fixture(scope="module")
def finished(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    folder = tmp_path_factory.mktemp("classify")
    noisy: dict[str, Any] = {"noise": "gaussian:0,1", "noise_weight": 0.3}
    return execute(classify.run, classify.Settings(**network_settings, **noisy, out_dir=str(folder))), folder


def test_a_report_agrees_with_the_predictions_beside_it(
    finished: tuple[Result, Path], network_settings: dict[str, Any], digits: Dataset
) -> None:
    metrics = json.loads((finished[1] / "metrics.json").read_text())
    with np.load(finished[1] / "predictions.npz") as arrays:
        answers = {name: arrays[f"logits_{name}"].argmax(axis=1) for name in ("test", "noisy_test")}
        labels = arrays["labels"]
    np.testing.assert_array_equal(labels, digits.test.labels)
    assert metrics["test_accuracy"] == metrics["test"]["accuracy"]
    for name, of in answers.items():
        report = metrics[name]
        assert report["accuracy"] == np.mean(of == labels) == np.trace(report["confusion"]) / len(labels)
        assert report["confusion"][8][1] == np.sum((labels == 8) & (of == 1))  # rows are the truth
        assert report["classes"]["8"]["recall"] == pytest.approx(np.mean(of[labels == 8] == 8))
        assert report["classes"]["8"]["precision"] == pytest.approx(np.mean(labels[of == 8] == 8))
    assert metrics["noisy_test"]["accuracy"] < metrics["test"]["accuracy"] - 0.02
    assert len(metrics["epochs"]) == network_settings["epochs"]


def test_it_writes_its_files_whole(finished: tuple[Result, Path]) -> None:
    result, folder = finished
    for name in ("curves.png", "confusion.png", "answers.png", "config.json"):
        assert (folder / name).stat().st_size > 0
    assert not list(folder.glob(".partial*"))
    assert sum(line.startswith("class ") for line in result.summary) == 2  # a table each without and with noise


def test_a_weight_of_no_noise_is_refused(network_settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"noise_weight is 0\.3 of no noise: give --noise too"):
        classify.run(classify.Settings(**network_settings, noise_weight=0.3))


def test_scores_of_each_class_are_those_of_their_definition() -> None:
    report = statistics.classification_report(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3)
    classes = report.as_json(("a", "b", "c"))["classes"]
    assert classes["a"] == {"precision": 1, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "images": 3}
    assert classes["b"] == {"precision": 0.5, "recall": 1, "f1": pytest.approx(2 / 3), "images": 1}
    assert classes["c"] == {"precision": None, "recall": None, "f1": None, "images": 0}
    assert classes["mean"]["precision"] == 0.75  # of a and b
    assert classes["mean"]["images"] == 2
    assert report.table(("a", "b", "c"))[3].split() == ["c", "none", "none", "none", "0"]
    assert str(report).startswith("75.00% (")


def test_a_class_that_is_never_answered_scores_zero() -> None:
    report = statistics.classification_report(np.array([0, 1]), np.array([0, 0]), 2).as_json("ab")
    assert report["classes"]["b"] == {"precision": 0, "recall": 0, "f1": 0, "images": 1}
    assert report["confusion"] == [[1, 0], [1, 0]]


def test_log_odds_tell_answers_apart_whose_probability_rounds_to_one() -> None:
    odds = statistics.log_odds(np.array([[60, 0, 0], [50, 0, 0]]))
    np.testing.assert_allclose(odds, [60 - np.log(2), 50 - np.log(2)])
