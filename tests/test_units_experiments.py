"""The experiments on single units: spike-triggered averages and covariances, activations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import activations, spike_triggered_average, spike_triggered_covariance
from wna_jax import data
from wna_jax.runs.errors import InputError


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {
        "dataset": "digits",
        "data_dir": None,
        "model": "pair_cnn",
        "epochs": 6,
        "train_seed": 0,
        "checkpoint_dir": str(tmp_path_factory.mktemp("checkpoints")),
        "retrain": False,
        "noise": "matched",
        "seed": 0,
    }


def average(settings: dict[str, Any], out_dir: Path, **changes: Any) -> dict:
    own: dict[str, Any] = {
        "layers": None,
        "sampling": "auto",
        "num_samples": 45_000,
        "natural_samples": 0,
        "ridge": 0.01,
        "batch_size": None,
        "out_dir": str(out_dir),
    }
    spike_triggered_average.run(spike_triggered_average.Settings(**(settings | own | changes)))
    return json.loads((out_dir / "metrics.json").read_text())["layers"]


def test_first_layer_averages_are_the_learned_weights(settings: dict[str, Any], tmp_path: Path) -> None:
    layers = average(settings, tmp_path)
    layers |= average(settings, tmp_path, layers=("conv1",), natural_samples=2_000)
    assert layers["conv1"]["sampling"] == "field"
    assert layers["conv1"]["receptive_field"]["size"] == [5, 5]
    rates = np.array(layers["conv1"]["firing_rates"])
    firing = [r for r, rate in zip(layers["conv1"]["correlation_with_weights"], rates, strict=True) if rate > 0.01]
    assert min(firing) > 0.99
    assert layers["conv2"]["receptive_field"]["size"] == [14, 14]
    assert "correlation_with_weights" not in layers["conv2"]
    dead = layers["conv2"]["dead_units"]
    assert dead == [k for k, rate in enumerate(layers["conv2"]["firing_rates"]) if rate == 0]
    arrays = np.load(tmp_path / "conv2.npz")
    assert arrays["average"].shape == (50 - len(dead), 14, 14, 1)
    for name in ("conv1_average", "conv1_weights", "conv1_natural", "conv2_average"):
        assert (tmp_path / f"{name}.png").exists()
    assert not (tmp_path / "conv2_weights.png").exists()
    assert not (tmp_path / "conv2_natural.png").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": ("conv9",)}, "unknown layer 'conv9' .*conv1, conv2, fc1, fc2"),
        ({"ridge": -1.0}, "ridge is -1.0"),
        ({"noise": "stripes"}, "one image alone"),
        ({"model": "rnn", "epochs": 1}, "no layer of this network .*choose --layers from rnn1"),
        ({"model": "rnn", "epochs": 1, "layers": ("rnn1",)}, "expected .rows, columns, units. or .units,."),
    ],
)
def test_wrong_input_of_averages_is_named(settings: dict[str, Any], tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        average(settings, tmp_path, num_samples=100, **changes)


def covariance(settings: dict[str, Any], out_dir: Path, **changes: Any) -> dict:
    own: dict[str, Any] = {
        "layer": "conv1",
        "units": None,
        "num_samples": 40_000,
        "alpha": 0.05,
        "batch_size": None,
        "out_dir": str(out_dir),
    }
    spike_triggered_covariance.run(spike_triggered_covariance.Settings(**(settings | own | changes)))
    return json.loads((out_dir / "metrics.json").read_text())


def test_units_that_only_add_have_no_features_beside_their_average(settings: dict[str, Any], tmp_path: Path) -> None:
    units = covariance(settings, tmp_path)["units"]
    assert len(units) == 10
    significant = [len(unit["excitatory"]) + len(unit["suppressive"]) > 0 for unit in units.values()]
    assert sum(significant) <= 3  # of 10 at .05: P(more) = .001
    assert (tmp_path / "spectra.png").exists()
    assert (tmp_path / "features.png").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer": "conv9"}, "unknown layer 'conv9'"),
        ({"noise": "uniform"}, "needs Gaussian noise"),
        ({"units": ("10",)}, "units is '10': expected numbers from 0 to 9"),
        ({"units": ("x",)}, "units is 'x'"),
        ({"model": "mlp", "epochs": 1, "layer": "fc1", "dataset": "FOLDER"}, "1200 pixels.*expected at most 1024"),
    ],
)
def test_wrong_input_of_covariances_is_named(
    settings: dict[str, Any], tmp_path: Path, changes: dict, said: str
) -> None:
    if changes.get("dataset") == "FOLDER":
        from PIL import Image

        for name in "ab":
            (tmp_path / "images" / name).mkdir(parents=True)
            for i in range(8):
                Image.fromarray(np.full((40, 30), 10 * i, np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
        changes = changes | {"dataset": f"folder:{tmp_path / 'images'}"}
    with pytest.raises(InputError, match=said):
        covariance(settings, tmp_path / "out", num_samples=100, **changes)


def test_activations_of_classes_are_drawn_for_both_networks(settings: dict[str, Any], tmp_path: Path) -> None:
    own: dict[str, Any] = {"noise_weight": 0.2, "augmentation": "shift", "layers": None, "images_a_class": 5}
    activations.run(activations.Settings(**(settings | own), out_dir=str(tmp_path)))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["test_accuracy"]) == {"none", "shift"}
    assert set(metrics["images_a_class"].values()) == {5}
    arrays = np.load(tmp_path / "activations.npz")
    shape = data.load("digits").image_shape
    assert arrays["conv1-as_they_are-none"].shape == (10, shape[0] - 4, shape[1] - 4, 10)
    assert not np.array_equal(arrays["conv1-as_they_are-none"], arrays["conv1-in_noise-none"])
    assert not np.array_equal(arrays["conv1-as_they_are-none"], arrays["conv1-as_they_are-shift"])
    for name in ("conv1_maps", "conv2_maps", "conv1_bars", "conv2_bars", "walk", "augmentation"):
        assert (tmp_path / f"{name}.png").exists()
    with pytest.raises(
        InputError, match="fc1 has no spatial positions: choose from those with feature maps, conv1, conv2"
    ):
        activations.run(activations.Settings(**(settings | own | {"layers": ("fc1",)}), out_dir=str(tmp_path / "fc1")))
