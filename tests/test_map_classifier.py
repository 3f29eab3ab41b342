import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import map_classifier
from wna_jax import data


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> map_classifier.Settings:
    folder = tmp_path_factory.mktemp("runs")
    return map_classifier.Settings(
        dataset="digits",
        data_dir=None,
        model="logistic",
        epochs=5,
        noises=("matched", "gabor_pca"),
        response=("decision", "probability"),
        num_samples=2000,
        batch_size=None,
        seed=0,
        train_seed=0,
        out_dir=str(folder / "out"),
        checkpoint_dir=str(folder / "checkpoints"),
        retrain=False,
    )


@pytest.fixture(scope="module")
def metrics(settings: map_classifier.Settings) -> dict:
    map_classifier.run(settings)
    return json.loads((Path(settings.out_dir) / "metrics.json").read_text())


def test_every_noise_response_and_variant_is_reported_with_its_interval(metrics: dict, digits: data.Dataset) -> None:
    kinds = {(row["noise"], row["response"], row["variant"]) for row in metrics["classifiers"]}
    assert len(kinds) == len(metrics["classifiers"]) == 2 + 2 * 4 + 2 * 7  # class means; white; whitened as well
    per_class = np.bincount(digits.test.labels, minlength=10)
    for row in metrics["classifiers"]:
        low, high = row["interval_95"]
        assert 0 <= low < row["test_accuracy"] < high <= 1
        confusion = np.array(row["confusion"])
        np.testing.assert_array_equal(confusion.sum(axis=1), per_class)
        assert np.trace(confusion) / confusion.sum() == row["test_accuracy"]
        for name in row["classes_without_template"]:
            assert not confusion[:, int(name)].any()


def test_templates_of_a_linear_network_classify_far_above_chance(metrics: dict) -> None:
    best = metrics["best_on_validation"]
    assert set(best) == {"class means", "matched", "gabor_pca"}
    assert best["class means"]["test_accuracy"] > 0.8
    assert best["matched"]["test_accuracy"] > 0.5
    assert best["gabor_pca"]["test_accuracy"] > 0.5


def test_files_are_whole(settings: map_classifier.Settings, metrics: dict) -> None:
    folder = Path(settings.out_dir)
    for name in ("accuracies.png", "confusion.png"):
        with Image.open(folder / name) as image:
            assert min(image.size) > 300
    arrays = np.load(folder / "templates.npz")
    assert len(arrays) == len(metrics["classifiers"])
    assert arrays["gabor_pca-probability-whitened, ridge 0.1"].shape == (10, 28, 28, 1)
