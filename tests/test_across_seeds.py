import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import across_seeds
from wna_jax.errors import InputError


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> across_seeds.Settings:
    folder = tmp_path_factory.mktemp("runs")
    return across_seeds.Settings(
        dataset="digits:0,1,7",
        data_dir=None,
        model="logistic",
        epochs=5,
        noise="matched",
        response=("decision", "probability"),
        num_samples=3000,
        batch_size=None,
        seed=0,
        train_seed=3,
        num_train_seeds=2,
        out_dir=str(folder / "first"),
        checkpoint_dir=str(folder / "checkpoints"),
        retrain=False,
    )


def test_it_leaves_metrics_that_agree_with_its_arrays(settings: across_seeds.Settings) -> None:
    across_seeds.run(settings)
    folder = Path(settings.out_dir)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["train_seeds"] == [3, 4]
    decision = metrics["responses"]["decision"]
    assert [sum(counts) for counts in decision["counts"]] == [3000, 3000]
    assert decision["counts"][0] != decision["counts"][1]  # each has its own noise
    probability = metrics["responses"]["probability"]
    with np.load(folder / "maps.npz") as arrays:
        own = [arrays[f"probability_network_{network}_map_2"] for network in (0, 1)]
        np.testing.assert_allclose(arrays["probability_mean_map_2"], np.mean(own, axis=0), atol=1e-7)
        error = np.abs(own[0] - own[1]) / 2  # the standard error of a mean of two
        np.testing.assert_allclose(arrays["probability_mean_error_2"], error, atol=1e-7)
        assert probability["error_across_seeds"][2] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-3)
        r = np.corrcoef(*(image.ravel() for image in own))[0, 1]
        assert probability["correlation"][2][0][1] == pytest.approx(r, abs=1e-3)
        a, b = (reliability[2] for reliability in probability["reliability"])
        assert probability["mean_corrected_correlation"][2] == pytest.approx(r / np.sqrt(a * b), abs=2e-3)
    for name in ("across_seeds_decision.png", "across_seeds_probability.png", "config.json", "log.jsonl"):
        assert (folder / name).stat().st_size > 100, name


def test_logits_are_refused_before_anything_is_trained(settings: across_seeds.Settings, tmp_path: Path) -> None:
    nowhere = tmp_path / "checkpoints"
    with pytest.raises(InputError, match="logits are not averaged across seeds"):
        across_seeds.run(
            replace(settings, response=("logit",), out_dir=str(tmp_path / "out"), checkpoint_dir=str(nowhere))
        )
    assert not nowhere.exists()
