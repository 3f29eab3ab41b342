from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import pytest

from experiments import launch
from experiments.launch import Result
from experiments.spike_triggered_average import Settings, run
from wna_jax import InputError, classification_images, data, noise, reverse_correlate
from wna_jax.networks import Network, checkpoints, models
from wna_jax.networks.training import Trained, TrainingSpec
from wna_jax.networks.units import layer_activations
from wna_jax.studies.receptive_fields import units_of

pytestmark = pytest.mark.slow  # whole experiments

SHAPE = (28, 28, 1)
MakeNetwork = Callable[[nn.Module], Network]


def test_the_average_of_a_linear_unit_is_its_kernel(random_network: MakeNetwork) -> None:
    """A unit relu(w.x) in Gaussian noise has E[a x] / E[a] = s sqrt(pi / 2) w / |w|, at every position alike."""
    untrained = random_network(models.create("paper_cnn", SHAPE, 10))
    untrained.parameters["conv1"]["bias"] = np.zeros(20, np.float32)
    kernel = np.asarray(untrained.parameters["conv1"]["kernel"])  # [5, 5, 1, 20]
    shape, respond, seen, _ = units_of(layer_activations(untrained, "conv1"), SHAPE)
    assert shape == (5, 5, 1)
    assert seen == (slice(None), slice(None))
    white = noise.gaussian(shape, 0.0, 1.0)
    moments = reverse_correlate(white, respond, 200_000)
    assert moments.field_sums is not None  # positions of one field are the samples
    maps = classification_images(moments, white)
    for k in range(20):
        w = kernel[..., k]
        np.testing.assert_allclose(maps.images[k], np.sqrt(np.pi / 2) * w / np.linalg.norm(w), atol=0.02)


def test_a_padded_layer_is_seen_from_its_middle(random_network: MakeNetwork) -> None:
    shape, respond, crop, _ = units_of(
        layer_activations(random_network(models.create("net", SHAPE, 10)), "conv2"), SHAPE
    )
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
        layers=("conv1",),
        num_samples=20_480,
        natural_samples=2_000,
    )


@pytest.fixture(scope="module")
def result(settings: Settings) -> Result:
    return launch.execute(run, settings)


def test_first_layer_averages_are_the_learned_weights(result: Result, settings: Settings) -> None:
    layer = result.metrics["layers"]["conv1"]
    assert layer["sampling"] == "field"
    assert layer["receptive_field"]["size"] == (5, 5)
    r, rates = layer["correlation_with_weights"], np.array(layer["firing_rates"])
    assert min(of_unit for of_unit, rate in zip(r, rates, strict=True) if rate > 0.01) > 0.99
    for name in ("conv1_average.png", "conv1_weights.png", "conv1_natural.png", "conv1.npz", "metrics.json"):
        assert (settings.folder / name).stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))


@pytest.mark.slow
def test_deeper_layers_have_larger_fields_and_no_weights_to_compare_with(result: Result, settings: Settings) -> None:
    every = run(replace(settings, layers=None, natural_samples=0))  # conv1 from its state
    assert set(dict(every.draw())) == {"conv1_average.png", "conv1_weights.png", "conv2_average.png"}
    assert every.metrics["layers"]["conv1"]["firing_rates"] == result.metrics["layers"]["conv1"]["firing_rates"]
    layer = every.metrics["layers"]["conv2"]
    assert layer["receptive_field"]["size"] == (14, 14)
    assert "correlation_with_weights" not in layer
    dead = layer["dead_units"]
    assert dead == [k for k, rate in enumerate(layer["firing_rates"]) if rate == 0]
    assert every.arrays["conv2.npz"]["average"].shape == (50 - len(dead), 14, 14, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": ("conv9",)}, "unknown layer 'conv9' .*conv1, conv2, fc1, fc2"),
        ({"ridge": -1.0}, "ridge is -1.0"),
        ({"noise": "stripes"}, "exists only in the size"),
    ],
)
def test_wrong_input_is_named(settings: Settings, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(replace(settings, num_samples=100, out_dir=str(tmp_path), **changes))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (None, "no layer of this network .*choose --layers from rnn1"),
        (("rnn1",), "expected .rows, columns, units. or .units,."),
    ],
)
def test_recurrent_layers_are_refused(
    digits: data.Dataset, random_network: MakeNetwork, tmp_path: Path, layers: tuple[str, ...] | None, said: str
) -> None:
    spec = TrainingSpec("digits", digits.fingerprint, "rnn", epochs=1)
    trained = Trained(random_network(models.create("rnn", SHAPE, 10)).parameters, {"test_accuracy": 0.5})
    checkpoints.save(checkpoints.path_of(spec, tmp_path), spec, trained)
    with pytest.raises(InputError, match=said):
        run(Settings(model="rnn", epochs=1, layers=layers, checkpoint_dir=str(tmp_path), out_dir=str(tmp_path)))
