from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import launch, microstimulation
from experiments.microstimulation import Settings
from wna_jax.networks import Network
from wna_jax.runs.errors import InputError


@pytest.fixture(scope="module")
def trained(network: Network, shared_folder: Path) -> dict[str, Any]:
    """The settings of the shared network, which is trained by now."""
    return {"dataset": "digits", "model": "paper_cnn", "epochs": 8, "checkpoint_dir": str(shared_folder / "network")}


@pytest.mark.slow
def test_suppression_takes_the_class_away(trained: dict[str, Any]) -> None:
    result = microstimulation.run(Settings(**trained, strengths=(0.0, -4.0), images_a_class=20))
    metrics = result.metrics
    assert metrics["strengths"] == [0, -4]
    assert {shift and shift[1] for shift in metrics["mean_shift"]["fc1"]} <= {None, *range(1, 11)}
    assert list(metrics["mean_change"]) == ["conv1", "conv2", "fc1"]
    for layer in metrics["mean_change"]:
        assert metrics["mean_change"][layer][0] == 0
    assert metrics["mean_share_without_noise"]["fc1"][0] > 0.8
    assert metrics["mean_share_without_noise"]["fc1"][1] < 0.3
    arrays = result.arrays["curves.npz"]
    assert arrays["hits_conv1"].shape == (10, 21, 2)
    np.testing.assert_array_equal(arrays["hits_conv1"][..., 0], arrays["hits_fc1"][..., 0])


@pytest.mark.slow
def test_it_writes_its_files(tmp_path: Path) -> None:
    small: dict[str, Any] = {"dataset": "digits:2,8", "model": "logistic", "epochs": 1, "checkpoint_dir": str(tmp_path)}
    settings = Settings(**small, out_dir=str(tmp_path), layers=("fc1",), strengths=(-4.0,), images_a_class=20)
    result = launch.execute(microstimulation.run, settings)
    assert result.metrics["strengths"] == [0, -4]
    for name in ("psychometric.png", "thresholds.png", "stimuli.png", "metrics.json", "config.json", "log.jsonl"):
        assert (tmp_path / name).stat().st_size > 0
    assert np.load(tmp_path / "curves.npz")["hits_fc1"].shape == (2, 21, 2)
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": ("conv9",)}, "unknown layer 'conv9'"),
        ({"strengths": (1e39,)}, r"strengths is 1e.39: expected numbers from -1,000,000 to 1,000,000"),
        ({"unit": "authors", "layers": ("fc2",)}, "no number for layer fc2: choose from conv1, conv2, fc1"),
        ({"unit": "neuron"}, "unknown unit 'neuron'"),
    ],
)
def test_wrong_input_is_named(trained: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        microstimulation.run(Settings(**trained, **changes))
