import contextlib
import dataclasses
import importlib.util
import json
import pickle
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import benchmark, launch, shared, timing, workload
from wna_jax import noise, responses
from wna_jax.correlation import draw_samples, reverse_correlate
from wna_jax.networks import Network, models
from wna_jax.runs.errors import InputError

pytestmark = pytest.mark.slow  # whole experiments

WHITE = noise.uniform((28, 28, 1))
TORCH_VARIANTS = {"authors_style", "tuned_torch", "field_torch"}
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="module")
def untrained() -> Network:
    network = models.untrained("paper_cnn", (28, 28, 1), 10)
    return Network(network.module, jax.tree.map(np.asarray, network.parameters))


@contextlib.contextmanager
def worker_here(load: Callable[[str], timing.Variant], name: str) -> Iterator[timing.Ask]:
    """As `timing.worker`, but in this process, where libraries are imported already."""
    variant = load(name)
    jobs: list[timing.Job] = []

    def ask(*message: Any) -> Any:
        if not jobs:
            job, facts = variant.build(*message)
            jobs.append(job)
            return facts
        started = time.perf_counter()
        counts, _ = jobs[0](*message)
        return timing.Timing(time.perf_counter() - started, counts.tolist(), 1, variant.device_memory())

    yield ask


@pytest.fixture(scope="module")
def finished(network: Network, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A short benchmark of all that is installed: where its files are, and benchmark.json."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            shared, "trained_network", lambda *_: shared.TrainedNetwork(network, {"test_accuracy": 0.9}, True)
        )
        patch.setattr(timing, "worker", worker_here)
        patch.setattr(timing, "_FEWEST", 256)
        patch.setattr(workload, "SIDE", 256)
        settings = benchmark.Settings(rounds=2, seconds=0.01, out_dir=str(folder))
        launch.execute(benchmark.run, settings)
    return folder, json.loads((folder / "benchmark.json").read_text())


def test_each_variant_does_the_whole_job_with_the_same_network(finished: tuple[Path, dict]) -> None:
    folder, results = finished
    assert results["variants"].keys() == {"independent", "field"} | (TORCH_VARIANTS if HAS_TORCH else set())
    assert results["network"]["parameters"] == 431_080
    assert results["comparable"] == (not results["objections"])
    assert results["strongest_pytorch"].keys() == {"independent", "field"}
    assert results["matmul_gflop_per_second"]["min"] > 0
    for name, variant in results["variants"].items():
        speed = variant["samples_per_second"]
        assert 0 < speed["min"] <= speed["median"] <= speed["max"]
        assert len(speed["rounds"]) == results["rounds"] == 2
        assert sum(variant["counts_of_last_run"]) == variant["samples_per_run"]
        assert variant["largest_logit_difference"] < 1e-4
        assert variant["share_of_matmul_peak"] > 0
        assert variant["peak_memory_mb"] > 0
        assert (variant["compile_seconds"] is None) == (name in TORCH_VARIANTS)
        assert variant["device"]
        assert len(variant["cores_of_others"]) == 2
    with Image.open(folder / "benchmark.png") as image:
        assert min(image.size) > 200
    assert json.loads((folder / "config.json").read_text())["rounds"] == 2
    assert not list(folder.glob(".partial*"))


def test_ratios_are_of_the_rounds_that_were_timed(finished: tuple[Path, dict]) -> None:
    _, results = finished
    rates = {name: variant["samples_per_second"]["rounds"] for name, variant in results["variants"].items()}
    for ours in ("independent", "field"):
        for other in rates.keys() - {ours}:
            quotients = [a / b for a, b in zip(rates[ours], rates[other], strict=True)]
            assert results[f"{ours}_vs_{other}"] == statistics.median(quotients)
    assert ("authors_style" in rates) == (results["field_vs_authors_style"] is not None)


def test_without_pytorch_ours_are_timed_alone(untrained: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def worker(_: Any, name: str) -> Iterator[timing.Ask]:
        """Takes 1 s for any run, but the field half of that."""
        answer = timing.Timing(0.5 if name == "field" else 1.0, [600, 424], 10**6, None)
        yield lambda first, second: {"device": "a cpu"} if isinstance(second, np.ndarray) else answer

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(timing, "worker", worker)
    trained = shared.TrainedNetwork(untrained, {"test_accuracy": 0.1}, True)
    monkeypatch.setattr(shared, "trained_network", lambda *_: trained)
    result = benchmark.run(benchmark.Settings(rounds=2, seconds=0.01))
    assert any("pip install 'wna_jax[benchmark]'" in line for line in result.summary)
    assert result.metrics_file == "benchmark.json"
    assert result.metrics["variants"].keys() == {"independent", "field"}
    assert result.metrics["field_vs_independent"] == 2
    assert result.metrics["field_vs_tuned_torch"] is result.metrics["independent_vs_authors_style"] is None


def test_the_networks_cost_is_that_of_its_multiply_adds(untrained: Network) -> None:
    parameters = untrained.parameters
    multiply_adds = 24**2 * 25 * 20 + 8**2 * 25 * 20 * 50 + 800 * 500 + 500 * 10
    assert workload.flop_per_sample(parameters, field=False) == 2 * multiply_adds
    field = 148**2 * 25 * 20 + 70**2 * 25 * 20 * 50 + 32**2 * (800 * 500 + 500 * 10)
    assert workload.flop_per_sample(parameters, field=True) == 2 * field / 1024


def test_a_busy_machine_is_no_machine_to_compare_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.os, "cpu_count", lambda: 4)
    assert benchmark._objections(0.1, [0.1, None, 0.3, 3.0, 0.0], [9.0, 10.0, 9.5]) == []
    assert benchmark._objections(None, [None], [1.0]) == []
    assert benchmark._objections(0.5, [], [1.0]) == ["other work took 0.5 of 4 cores before the start"]
    assert benchmark._objections(0.0, [0.6, 0.7, 0.1], [1.0]) == ["other work took 0.6 of 4 cores in the median"]
    slow = benchmark._objections(0.0, [], [8.0, 10.0, 7.0])
    assert slow == ["matrix products ran at 80% of their best rate in the median"]


def test_the_strongest_rival_is_of_the_same_sampling_and_precision() -> None:
    rates = {
        **{"tuned_torch": [2.0, 2.0, 2.0], "compiled_torch": [4.0, 3.0, 3.0], "compiled_torch_bfloat16": [8.0] * 3},
        **{"field_torch": [20.0] * 3, "field_torch_bfloat16": [40.0] * 3},
        **{"independent": [6.0, 9.0, 6.0], "field": [30.0] * 3, "field_bfloat16": [60.0] * 3},
    }
    assert benchmark._strongest(rates, "independent") == {"name": "compiled_torch", "ratio": 2}
    assert benchmark._strongest(rates, "field") == {"name": "field_torch", "ratio": 1.5}
    assert benchmark._strongest(rates, "field_bfloat16") == {"name": "field_torch_bfloat16", "ratio": 1.5}
    assert benchmark._strongest({"field": [1.0]}, "field") is None


def test_a_baseline_that_cannot_be_built_is_left_out_and_ours_is_not(untrained: Network) -> None:
    def broken(*_: Any) -> Any:
        raise InputError("no compiler")

    def sound(parameters: Any, probe: np.ndarray) -> dict[str, Any]:
        return {"device": "a cpu"}

    facts, failed = benchmark._prepare({"compiled_torch": broken, "field": sound}, untrained)
    assert (list(facts), failed) == (["field"], ["compiled_torch"])
    with pytest.raises(InputError, match="no compiler"):
        benchmark._prepare({"field": broken}, untrained)


def test_two_benchmarks_at_once_and_other_images_are_refused() -> None:
    with pytest.raises(InputError, match="ask for one of them"):
        benchmark.run(benchmark.Settings(scaling=True, accelerator=True))
    with pytest.raises(InputError, match="the benchmark's network takes digits, mnist or fashion_mnist"):
        benchmark.run(benchmark.Settings(dataset="digits:3,5"))


def test_another_network_is_refused(untrained: Network) -> None:
    def ask(parameters: Any, probe: np.ndarray) -> dict[str, Any]:
        return {"logits": np.zeros((len(probe), 10)), "exact_logits": np.zeros((len(probe), 10))}

    with pytest.raises(RuntimeError, match="it is not the same network"):
        benchmark._prepare({"tuned_torch": ask}, untrained)


def test_what_a_worker_is_sent_can_be_sent(untrained: Network) -> None:
    load, parameters = pickle.loads(pickle.dumps((workload.load, untrained.parameters)))
    assert load is workload.load
    jax.tree.map(np.testing.assert_array_equal, parameters, untrained.parameters)


@pytest.mark.parametrize("style", ["authors_style", "tuned_torch", "field_torch"])
def test_torch_sums_the_same_noise_to_the_same_counts_and_maps(style: str, untrained: Network) -> None:
    torch = pytest.importorskip("torch")
    from experiments import torch_baselines

    sums_of: Callable[..., Any] = {
        "authors_style": torch_baselines.authors_sums,
        "tuned_torch": torch_baselines.tuned_sums,
        "field_torch": torch_baselines.field_sums,
    }[style]
    in_field = style == "field_torch"
    net = torch_baselines.network(untrained.parameters, dense=not in_field, pool_first=style != "authors_style")
    if in_field:
        noise_nhwc = np.random.default_rng(0).random((2, 40, 40, 1), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(noise_nhwc[..., 0], (28, 28), axis=(1, 2))[:, ::4, ::4]
        images = windows.reshape(-1, 28, 28, 1)
        decisions = np.asarray(untrained(jnp.asarray(images)).argmax(axis=1))
        counts = np.bincount(decisions, minlength=10)
        sums = np.stack([images[decisions == k].sum(axis=0) for k in range(10)])
    else:
        noise_nhwc = np.array(draw_samples(WHITE, 300, seed=5))
        response = responses.of_classifier(untrained, ("decision",))
        moments = reverse_correlate(WHITE, response, 300, seed=5, sampling="independent")["decision"]
        counts, sums = moments.count, moments.sum
    ours = np.asarray(untrained(jnp.asarray(noise_nhwc[:, :28, :28])))
    theirs = torch.tensor(noise_nhwc).permute(0, 3, 1, 2)
    np.testing.assert_allclose(net(theirs[:, :, :28, :28]).detach().flatten(1), ours, atol=1e-4)
    their_counts, their_sums = sums_of(net, theirs)
    assert (counts > 0).sum() > 1
    np.testing.assert_array_equal(their_counts, counts)
    np.testing.assert_allclose(their_sums, sums.reshape(10, -1), rtol=1e-4)


@pytest.mark.parametrize("name", ["authors_style", "tuned_torch", "field_torch"])
def test_a_torch_job_counts_every_sample_and_repeats_by_its_seed(
    name: str, untrained: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from experiments import torch_baselines

    monkeypatch.setattr(torch_baselines, "_fastest", lambda make, sizes: (make(sizes[0]), sizes[0]))
    job, _ = torch_baselines.build(name, untrained.parameters, np.zeros((1, 28, 28, 1), np.float32))
    n = 2048 if name == "field_torch" else 300
    counts, sums = job(n, 1)
    assert counts.sum() == n
    assert sums.shape == (10, 784)
    assert sums.sum() / n == pytest.approx(784 / 2, rel=0.01)
    np.testing.assert_array_equal(sums, job(n, 1)[1])
    assert not np.array_equal(sums, job(n, 2)[1])


def test_help_names_every_flag_with_its_default() -> None:
    shown = launch.help_text(benchmark.Settings, benchmark.__doc__ or "")
    for field in dataclasses.fields(benchmark.Settings):
        assert f"  --{field.name}" in shown
    assert "[7]" in shown


@pytest.mark.parametrize(("name", "value"), [("rounds", 0), ("seconds", -1.0)])
def test_wrong_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is {value}: expected a number of at least"):
        benchmark.Settings(**{name: value})


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        launch.execute(benchmark.run, benchmark.Settings(out_dir=str(tmp_path / "file" / "below")))
