from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import across_seeds, launch
from experiments.launch import Result
from wna_jax.runs.errors import InputError


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> across_seeds.Settings:
    own = network_settings | {"dataset": "digits:0,1,7", "out_dir": str(tmp_path_factory.mktemp("out"))}
    return across_seeds.Settings(**own, num_samples=3000, train_seed=3, num_train_seeds=2)


@pytest.fixture(scope="module")
def result(settings: across_seeds.Settings) -> Result:
    return launch.execute(across_seeds.run, settings)


@pytest.mark.slow
def test_every_network_is_shown_its_own_noise(result: Result) -> None:
    assert result.metrics["train_seeds"] == [3, 4]
    decision = result.metrics["responses"]["decision"]
    assert [sum(counts) for counts in decision["counts"]] == [3000, 3000]
    assert decision["counts"][0] != decision["counts"][1]


@pytest.mark.slow
def test_metrics_agree_with_the_arrays(result: Result) -> None:
    probability, arrays = result.metrics["responses"]["probability"], result.arrays["maps.npz"]
    own = [arrays[f"probability_network_{network}_map_2"] for network in (0, 1)]
    np.testing.assert_allclose(arrays["probability_mean_map_2"], np.mean(own, axis=0), atol=1e-7)
    error = np.abs(own[0] - own[1]) / 2  # the standard error of a mean of two
    np.testing.assert_allclose(arrays["probability_mean_error_2"], error, atol=1e-7)
    assert probability["error_across_seeds"][2] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-3)
    r = np.corrcoef(*(image.ravel() for image in own))[0, 1]
    assert probability["correlation"][2][0][1] == pytest.approx(r, abs=1e-3)
    a, b = (reliability[2] for reliability in probability["reliability"])
    assert probability["mean_corrected_correlation"][2] == pytest.approx(r / np.sqrt(a * b), abs=2e-3)


@pytest.mark.slow
def test_files_are_whole(settings: across_seeds.Settings, result: Result) -> None:
    for name in (
        *("across_seeds_decision.png", "across_seeds_probability.png"),
        *("metrics.json", "maps.npz", "config.json", "log.jsonl"),
    ):
        assert (settings.folder / name).stat().st_size > 100, name
    assert not list(settings.folder.glob(".partial*"))


def test_logits_are_refused_before_anything_is_trained(settings: across_seeds.Settings, tmp_path: Path) -> None:
    nowhere = tmp_path / "checkpoints"
    with pytest.raises(InputError, match="logits are not averaged across seeds"):
        across_seeds.run(replace(settings, response=("logit",), checkpoint_dir=str(nowhere)))
    assert not nowhere.exists()
