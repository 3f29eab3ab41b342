from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import launch, signal_in_noise
from experiments.launch import Result
from experiments.signal_in_noise import Settings
from wna_jax.runs.errors import InputError

pytestmark = pytest.mark.slow  # whole experiments


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        **network_settings,
        out_dir=str(tmp_path_factory.mktemp("signal_in_noise")),
        classes=("3", "8"),
        gammas=(0.0, 0.3),
        noise="uniform",
        num_samples=1_000,
    )


@pytest.fixture(scope="module")
def result(settings: Settings) -> Result:
    return launch.execute(signal_in_noise.run, settings)


def test_it_counts_every_sample_and_finds_the_threshold(settings: Settings, result: Result) -> None:
    metrics = result.metrics
    assert metrics["choice_accuracy"] > 0.9
    np.testing.assert_array_equal(np.sum(metrics["counts"], axis=1), 1_000)
    arrays = np.load(settings.folder / "maps.npz")
    np.testing.assert_array_equal(arrays["count_0.3"].T, metrics["counts"][1])
    first, second = metrics["psychometric"]["share_called_8"].values()
    assert first[-1] < 0.2 < 0.8 < second[-1]
    (threshold,) = [t for t in metrics["threshold"].values() if t]
    assert 0 < threshold["low"] <= threshold["gamma"] <= threshold["high"] < 1


@pytest.mark.usefixtures("result")
def test_it_writes_its_files(settings: Settings) -> None:
    for name in ("classification_images.png", "psychometric.png", "metrics.json", "config.json", "log.jsonl"):
        assert (settings.folder / name).stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gammas": (0.0, 1.5)}, "gammas is 0.0,1.5: expected numbers from 0 to 1"),
        ({"classes": ("3", "eight")}, "unknown class 'eight'"),
        ({"classes": ("3",)}, "expected two class names"),
        ({"classes": ("3", "3")}, "expected two class names"),
    ],
)
def test_wrong_input_is_said(settings: Settings, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        signal_in_noise.run(replace(settings, out_dir=str(tmp_path), **change))


def test_weights_that_are_no_numbers_are_said() -> None:
    with pytest.raises(InputError, match=r"gammas is '0,much': expected numbers separated by commas, such as 0.0,0.1"):
        launch._items("gammas", ["0", "much"], float, Settings().gammas)
