from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import launch
from experiments.launch import Result
from experiments.spike_triggered_average import Settings, run
from wna_jax import InputError, classification_images, noise, reverse_correlate
from wna_jax.networks import Network, models
from wna_jax.networks.units import layer_activations
from wna_jax.studies.receptive_fields import units_of

SHAPE = (28, 28, 1)


def test_the_average_of_a_linear_unit_is_its_kernel() -> None:
    """A unit relu(w.x) in Gaussian noise has E[a x] / E[a] = s sqrt(pi / 2) w / |w|, at every position alike."""
    untrained = models.untrained("paper_cnn", SHAPE, 10)
    kernel = np.asarray(untrained.parameters["conv1"]["kernel"])  # [5, 5, 1, 20], no bias yet
    shape, respond, seen, _ = units_of(layer_activations(untrained, "conv1"), SHAPE)
    assert shape == (5, 5, 1)
    assert seen == (slice(None), slice(None))
    white = noise.gaussian(shape, 0.0, 1.0)
    moments = reverse_correlate(white, respond, 500_000)
    assert moments.field_sums is not None  # positions of one field are the samples
    maps = classification_images(moments, white)
    for k in range(20):
        w = kernel[..., k]
        np.testing.assert_allclose(maps.images[k], np.sqrt(np.pi / 2) * w / np.linalg.norm(w), atol=0.02)


def test_a_padded_layer_is_seen_from_its_middle() -> None:
    shape, respond, crop, _ = units_of(layer_activations(models.untrained("net", SHAPE, 10), "conv2"), SHAPE)
    assert shape == SHAPE
    assert crop == (slice(11, 19), slice(11, 19))
    white = noise.gaussian(shape, 0.5, 0.3)
    maps = classification_images(reverse_correlate(white, respond, 4000), white)
    z = np.ma.abs(maps.images / maps.standard_error)
    outside = np.ones(SHAPE[:2], bool)
    outside[crop] = False
    assert z[:, crop[0], crop[1]].mean() > 1.5
    assert z[:, outside].mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)


@pytest.fixture(scope="module")
def settings(network: Network, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        model="paper_cnn",
        epochs=8,
        checkpoint_dir=str(shared_folder / "network"),
        out_dir=str(tmp_path_factory.mktemp("run")),
        num_samples=20_480,
        natural_samples=2_000,
    )


@pytest.fixture(scope="module")
def result(settings: Settings) -> Result:
    return launch.execute(run, settings)


def test_first_layer_averages_are_the_learned_weights(result: Result) -> None:
    layer = result.metrics["layers"]["conv1"]
    assert layer["sampling"] == "field"
    assert layer["receptive_field"]["size"] == (5, 5)
    r, rates = layer["correlation_with_weights"], np.array(layer["firing_rates"])
    assert min(of_unit for of_unit, rate in zip(r, rates, strict=True) if rate > 0.01) > 0.99


def test_deeper_layers_have_larger_fields_and_no_weights_to_compare_with(result: Result) -> None:
    layer = result.metrics["layers"]["conv2"]
    assert layer["receptive_field"]["size"] == (14, 14)
    assert "correlation_with_weights" not in layer
    dead = layer["dead_units"]
    assert dead == [k for k, rate in enumerate(layer["firing_rates"]) if rate == 0]
    assert result.arrays["conv2.npz"]["average"].shape == (50 - len(dead), 14, 14, 1)


def test_it_draws_what_there_is(result: Result, settings: Settings) -> None:
    names = ("conv1_average", "conv1_weights", "conv1_natural", "conv2_average", "conv2_natural")
    assert set(result.figures) == {f"{name}.png" for name in names}
    for name in (*result.figures, *result.arrays):
        assert (settings.folder / name).stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))
    without = run(replace(settings, layers=("conv1",), natural_samples=0))
    assert set(without.figures) == {"conv1_average.png", "conv1_weights.png"}
    assert without.metrics["layers"]["conv1"]["firing_rates"] == result.metrics["layers"]["conv1"]["firing_rates"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": ("conv9",)}, "unknown layer 'conv9' .*conv1, conv2, fc1, fc2"),
        ({"ridge": -1.0}, "ridge is -1.0"),
        ({"noise": "stripes"}, "exists only in the size"),
        ({"model": "rnn", "epochs": 1}, "no layer of this network .*choose --layers from rnn1"),
        ({"model": "rnn", "epochs": 1, "layers": ("rnn1",)}, "expected .rows, columns, units. or .units,."),
    ],
)
def test_wrong_input_is_named(settings: Settings, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(replace(settings, num_samples=100, out_dir=str(tmp_path), **changes))
