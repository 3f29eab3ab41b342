import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import decoded_noise, map_classifier
from wna_jax import data
from wna_jax.errors import InputError


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


def test_grey_images_are_the_mean_of_the_channels(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), (10, 20, i), np.uint8)).save(tmp_path / "ab"[i % 2] / f"{i:02}.png")
    colour, grey = data.load(f"folder:{tmp_path}"), data.load(f"folder:{tmp_path}:grey")
    assert grey.image_shape == (8, 8, 1)
    np.testing.assert_array_equal(grey.train.images[..., 0], np.round(colour.train.images.mean(axis=-1)))
    np.testing.assert_array_equal(grey.train.labels, colour.train.labels)
    assert grey.fingerprint != colour.fingerprint


def test_decoded_noise_maps_images_and_codes_of_the_same_samples(
    settings: map_classifier.Settings, tmp_path: Path
) -> None:
    shared = {name: getattr(settings, name) for name in decoded_noise.Settings.__dataclass_fields__ if name != "noise"}
    decoded_noise.run(decoded_noise.Settings(**shared | {"noise": "autoencoder", "out_dir": str(tmp_path)}))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert sum(metrics["counts"]) == 2000
    for answers in metrics["feedback"].values():
        assert [k for k, answer in enumerate(answers) if answer is None] == metrics["empty_classes"]
    # Images decoded from codes like those of the data are called by most classes, and their means by their own.
    assert len(metrics["empty_classes"]) <= 2
    right = sum(answer["correct"] for answer in metrics["feedback"]["mean_image"] if answer)
    assert right >= 0.7 * (10 - len(metrics["empty_classes"]))
    with Image.open(tmp_path / "mean_codes.png") as image:
        assert min(image.size) > 100
    with pytest.raises(InputError, match="unknown decoded noise 'matched'"):
        decoded_noise.run(decoded_noise.Settings(**shared | {"noise": "matched", "out_dir": str(tmp_path)}))
