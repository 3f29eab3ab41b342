import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import augmentation, classify
from wna_jax.data import Dataset
from wna_jax.errors import InputError


def test_a_report_agrees_with_the_predictions_beside_it(
    network_settings: dict[str, Any], digits: Dataset, tmp_path: Path
) -> None:
    noisy: dict[str, Any] = {"noise": "gaussian:0,1", "noise_weight": 0.3, "seed": 0}
    classify.run(classify.Settings(**network_settings, **noisy, out_dir=str(tmp_path)))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    with np.load(tmp_path / "predictions.npz") as arrays:
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
    for name in ("curves.png", "confusion.png", "answers.png", "config.json"):
        assert (tmp_path / name).stat().st_size > 0


def test_scores_of_each_class_are_those_of_their_definition() -> None:
    report = classify.class_report(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ("a", "b", "c"))
    assert report["a"] == {"precision": 1, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "images": 3}
    assert report["b"] == {"precision": 0.5, "recall": 1, "f1": pytest.approx(2 / 3), "images": 1}
    assert report["c"] == {"precision": None, "recall": None, "f1": None, "images": 0}
    assert report["mean"]["precision"] == 0.75  # of a and b
    assert report["mean"]["images"] == 2


def test_log_odds_tell_answers_apart_whose_probability_rounds_to_one() -> None:
    np.testing.assert_allclose(classify.log_odds(np.array([[60, 0, 0], [50, 0, 0]])), [60 - np.log(2), 50 - np.log(2)])


@pytest.fixture
def study(network_settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    own: dict[str, Any] = {"num_train_seeds": 2, "noise": "gaussian:0.5,0.25", "noise_weight": 0.0, "seed": 0}
    return network_settings | own | {"out_dir": str(tmp_path)}


def test_augmentations_are_compared_with_none_on_equal_terms(study: dict[str, Any], tmp_path: Path) -> None:
    augmentation.run(augmentation.Settings(**study, augmentations=("zoom_blur",)))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    accuracy, gain = metrics["accuracy"], metrics["gain_over_none"]
    assert list(accuracy["test"]) == ["none", "zoom_blur"]
    assert accuracy["noisy test"] == accuracy["test"]  # noise of weight 0
    assert gain["test"]["none"]["values"] == [0, 0]
    first, second = (np.array(accuracy["test"][name]["values"]) for name in ("none", "zoom_blur"))
    assert gain["test"]["zoom_blur"]["mean"] == pytest.approx(np.mean(second - first))
    half_width = 12.7062 * np.std(second - first, ddof=1) / np.sqrt(2)  # t of one degree of freedom
    assert gain["test"]["zoom_blur"]["high"] - np.mean(second - first) == pytest.approx(half_width, rel=1e-4)
    validation = {name: of["mean"] for name, of in accuracy["validation"].items()}
    assert metrics["best_on_validation"] == max(validation, key=validation.__getitem__)
    confusion = np.array(metrics["confusion"]["zoom_blur"]["test"])
    assert confusion.sum() == 2 * metrics["num_images"]["test"]
    assert np.trace(confusion) / confusion.sum() == pytest.approx(accuracy["test"]["zoom_blur"]["mean"])
    for name in ("accuracies.png", "examples.png", "confusion.png", "config.json"):
        assert (tmp_path / name).stat().st_size > 0


def test_an_unknown_augmentation_is_said_before_anything_is_trained(study: dict[str, Any], tmp_path: Path) -> None:
    nowhere = tmp_path / "checkpoints"
    settings = augmentation.Settings(**(study | {"checkpoint_dir": str(nowhere)}), augmentations=("shift", "warp"))
    with pytest.raises(InputError, match="unknown augmentation 'warp': choose one of flip, shift, rotation"):
        augmentation.run(settings)
    assert not nowhere.exists()
