from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import launch, map_classifier
from experiments.launch import Result
from wna_jax import data


@pytest.fixture(scope="module")
def settings(
    network_settings: dict[str, Any], small_digits: str, tmp_path_factory: pytest.TempPathFactory
) -> map_classifier.Settings:
    own = network_settings | {"dataset": small_digits, "out_dir": str(tmp_path_factory.mktemp("out"))}
    return map_classifier.Settings(**own, noises=("matched", "gabor_pca", "uniform/2"), num_samples=2000)


@pytest.fixture(scope="module")
def result(settings: map_classifier.Settings) -> Result:
    return launch.execute(map_classifier.run, settings)


@pytest.mark.slow
def test_every_noise_response_and_variant_is_reported_with_its_interval(result: Result, small_digits: str) -> None:
    rows = result.metrics["classifiers"]
    kinds = {(row["noise"], row["response"], row["variant"]) for row in rows}
    assert len(kinds) == len(rows) == 2 + 2 * 5 + 2 * 7 + 2 * 5  # class means; white; whitened as well; in squares
    per_class = np.bincount(data.load(small_digits).test.labels, minlength=10)
    for row in rows:
        low, high = row["interval_95"]
        assert 0 <= low < row["test_accuracy"] < high <= 1
        confusion = np.array(row["confusion"])
        np.testing.assert_array_equal(confusion.sum(axis=1), per_class)
        assert np.trace(confusion) / confusion.sum() == row["test_accuracy"]
        for name in row["classes_without_template"]:
            assert not confusion[:, int(name)].any()


@pytest.mark.slow
def test_templates_of_a_linear_network_classify_far_above_chance(result: Result) -> None:
    best = result.metrics["best_on_validation"]
    assert set(best) == {"class means", "matched", "gabor_pca", "uniform/2"}
    assert best["class means"]["test_accuracy"] > 0.8
    assert best["matched"]["test_accuracy"] > 0.5
    assert best["gabor_pca"]["test_accuracy"] > 0.5


@pytest.mark.slow
def test_files_are_whole(settings: map_classifier.Settings, result: Result) -> None:
    for name in ("accuracies.png", "confusion.png"):
        with Image.open(settings.folder / name) as image:
            assert min(image.size) > 300
    with np.load(settings.folder / "templates.npz") as arrays:
        assert len(arrays) == len(result.metrics["classifiers"])
        assert arrays["gabor_pca-probability-whitened, ridge 0.1"].shape == (10, 20, 20, 1)
    assert not list(settings.folder.glob(".partial*"))
