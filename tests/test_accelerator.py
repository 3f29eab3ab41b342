"""The benchmarks of devices, in small, on the CPU."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import accelerator, benchmark, launch, scaling, shared
from wna_jax.networks import Network, models, training
from wna_jax.runs.progress import silent


@pytest.fixture(scope="module")
def untrained() -> Network:
    network = models.untrained("paper_cnn", (28, 28, 1), 10)
    return Network(network.module, jax.tree.map(np.asarray, network.parameters))


@pytest.fixture
def with_network(untrained: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = shared.TrainedNetwork(untrained, {"test_accuracy": 0.1}, True)
    monkeypatch.setattr(shared, "trained_network", lambda *_: trained)


def test_a_part_that_fails_is_told_and_the_others_are_kept(
    untrained: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("no PyTorch")

    def apart(function: Any, *_: Any) -> dict[str, Any]:
        assert function is accelerator._long
        so_far = json.loads((tmp_path / "accelerator.json").read_text())
        assert so_far["peers"]["failed"] == "RuntimeError: no PyTorch"  # it is written before the next part begins
        numbers = {"host_memory_mb_after_100_000": 1.0, "host_memory_mb_at_the_end": 2.0, "device_memory_mb": 3.0}
        return {"num_samples": 200_000, "seconds": 2.0, "samples_per_second": 100_000.0, **numbers}

    monkeypatch.setattr(accelerator, "_apart", apart)
    settings = benchmark.Settings(parts=("peers", "long"), out_dir=str(tmp_path))
    result = accelerator.run(settings, untrained, broken, silent)
    assert any("10^9 take 10,000 s" in line for line in result.summary)
    assert any("no PyTorch" in line for line in result.summary)
    assert result.metrics_file == "accelerator.json"


def test_training_is_timed_over_three_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(spec: training.TrainingSpec, dataset: Any) -> training.Trained:
        return training.Trained({}, {"test_accuracy": 0.9 + 0.01 * spec.seed})

    monkeypatch.setattr(training, "fit", fit)
    found = accelerator._training(benchmark.Settings(), None)
    assert found["mean_test_accuracy"] == pytest.approx(0.91)
    assert len(found["seconds"]) == 3
    assert found["epochs"] == 40


def test_correlations_of_maps_are_those_of_numpy_and_empty_classes_have_none() -> None:
    first, second = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 1))
    masked = np.ma.masked_array(first, np.broadcast_to(np.reshape([0, 1, 0], (3, 1, 1, 1)), first.shape))
    found = accelerator._correlations(masked, np.ma.masked_array(second))
    assert found.mask.tolist() == [False, True, False]
    for k in (0, 2):
        assert found[k] == pytest.approx(np.corrcoef(first[k].ravel(), second[k].ravel())[0, 1])


@pytest.mark.slow
@pytest.mark.usefixtures("with_network")
def test_all_parts_run_on_a_cpu_in_small(tmp_path: Path) -> None:
    parts = ("loop", "long", "maps", "bfloat16")
    settings = benchmark.Settings(
        accelerator=True, parts=parts, num_samples=100_000, seconds=0.1, out_dir=str(tmp_path)
    )
    launch.execute(benchmark.run, settings)
    found = json.loads((tmp_path / "accelerator.json").read_text())
    assert not [name for name in parts if "failed" in found[name]]
    for row in found["loop"]["samples_per_second"].values():
        assert min(row.values()) > 0
    assert found["long"]["counted"] == found["long"]["num_samples"] == 100_000
    assert found["maps"]["num_samples"] == sum(found["maps"]["counts"]) == 1_000
    assert found["maps"]["profiled"]["seconds"] > found["maps"]["training_seconds"] > 0
    assert 0 <= found["bfloat16"]["decisions_that_differ"] < 0.2
    assert all(value is None or value > 0.5 for value in found["bfloat16"]["map_correlation"]["probability"])


@pytest.mark.slow
@pytest.mark.usefixtures("with_network")
def test_scaling_times_the_job_on_made_up_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_MOST", 2)
    settings = benchmark.Settings(scaling=True, rounds=1, seconds=0.05, out_dir=str(tmp_path))
    launch.execute(benchmark.run, settings)
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert found["devices"] == [1, 2]
    assert found["made_up"]
    for name in ("independent", "field"):
        assert found["efficiency"][name] == {"1": 1.0, "2": found["speed_up"][name]["2"] / 2}
    assert (tmp_path / "scaling.png").exists()


@pytest.mark.parametrize(("there", "counts"), [(1, [1]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_scaling_takes_all_devices_that_there_are(
    there: int, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_device_count", lambda: there)
    assert scaling.device_counts() == counts
