import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import benchmark
from wna_jax import noise, responses
from wna_jax.correlation.loop import draw_samples, reverse_correlate
from wna_jax.networks import models, training

WHITE = noise.uniform((28, 28, 1))
MODULE = models.create("paper_cnn", (28, 28, 1), 10)
TORCH_VARIANTS = {"authors_style", "tuned_torch", "field_torch"}
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="module")
def parameters() -> Any:
    return jax.tree.map(np.asarray, models.initial_parameters(MODULE, jax.random.key(0)))


def results_of(settings: benchmark.Settings) -> dict:
    benchmark.run(settings)
    return json.loads((Path(settings.out_dir) / "benchmark.json").read_text())


def settings_in(folder: Path) -> benchmark.Settings:
    return benchmark.Settings(2, 0.01, False, str(folder / "out"), str(folder / "checkpoints"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A short benchmark of all that is installed: where its files are, and benchmark.json."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "default_epochs", lambda *_: 1)
        return folder / "out", results_of(settings_in(folder))


def test_each_variant_does_the_whole_job_with_the_same_network(finished: tuple[Path, dict]) -> None:
    folder, results = finished
    assert results["variants"].keys() == {"independent", "field"} | (TORCH_VARIANTS if HAS_TORCH else set())
    assert results["network"]["parameters"] == 431_080
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
    with Image.open(folder / "benchmark.png") as image:
        assert min(image.size) > 200
    assert json.loads((folder / "config.json").read_text())["rounds"] == 2


def test_ratios_are_of_the_rounds_that_were_timed(finished: tuple[Path, dict]) -> None:
    _, results = finished
    rates = {name: variant["samples_per_second"]["rounds"] for name, variant in results["variants"].items()}
    for ours in ("independent", "field"):
        for other in rates.keys() - {ours}:
            quotients = [a / b for a, b in zip(rates[ours], rates[other], strict=True)]
            assert results[f"{ours}_vs_{other}"] == statistics.median(quotients)
    assert ("authors_style" in rates) == (results["field_vs_authors_style"] is not None)


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    rates = {"field": [3.0, 2.0, 8.0], "tuned_torch": [1.0, 2.0, 4.0]}
    assert benchmark.ratio(rates, "field", "tuned_torch") == 2
    assert benchmark.ratio(rates, "field", "authors_style") is None


def test_without_pytorch_ours_are_timed_alone(
    parameters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    @contextlib.contextmanager
    def worker(name: str) -> Iterator[Callable[..., Any]]:
        """Takes 1 s for any run, but the field half of that."""
        timing = benchmark.Timing(0.5 if name == "field" else 1.0, [600, 424], 10**6, None)
        yield lambda first, second: {"device": "a cpu"} if isinstance(second, np.ndarray) else timing

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(benchmark, "_worker", worker)
    monkeypatch.setattr(benchmark, "_network", lambda *_: (parameters, {}))
    results = results_of(settings_in(tmp_path))
    assert "pip install 'wna_jax[benchmark]'" in capsys.readouterr().out
    assert results["variants"].keys() == {"independent", "field"}
    assert results["field_vs_independent"] == 2
    assert results["field_vs_tuned_torch"] is results["independent_vs_authors_style"] is None


def test_the_networks_cost_is_that_of_its_multiply_adds(parameters: Any) -> None:
    multiply_adds = 24**2 * 25 * 20 + 8**2 * 25 * 20 * 50 + 800 * 500 + 500 * 10
    assert benchmark.flop_per_sample(parameters, field=False) == 2 * multiply_adds
    field = 148**2 * 25 * 20 + 70**2 * 25 * 20 * 50 + 32**2 * (800 * 500 + 500 * 10)
    assert benchmark.flop_per_sample(parameters, field=True) == 2 * field / 1024


def test_another_network_is_refused(parameters: Any) -> None:
    def ask(parameters: Any, probe: np.ndarray) -> dict[str, Any]:
        return {"logits": np.zeros((len(probe), 10)), "exact_logits": np.zeros((len(probe), 10))}

    with pytest.raises(RuntimeError, match="it is not the same network"):
        benchmark._prepare({"tuned_torch": ask}, parameters)


@pytest.mark.parametrize("style", ["authors_style", "tuned_torch", "field_torch"])
def test_torch_sums_the_same_noise_to_the_same_counts_and_maps(style: str, parameters: Any) -> None:
    torch = pytest.importorskip("torch")
    from experiments import torch_baselines

    logits = training.logits_function(MODULE, parameters)
    sums_of: Callable[..., Any] = {
        "authors_style": torch_baselines.authors_sums,
        "tuned_torch": torch_baselines.tuned_sums,
        "field_torch": torch_baselines.field_sums,
    }[style]
    in_field = style == "field_torch"
    net = torch_baselines.network(parameters, dense=not in_field, pool_first=style != "authors_style")
    if in_field:
        noise_nhwc = np.random.default_rng(0).random((2, 40, 40, 1), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(noise_nhwc[..., 0], (28, 28), axis=(1, 2))[:, ::4, ::4]
        images = windows.reshape(-1, 28, 28, 1)
        decisions = np.asarray(logits(jnp.asarray(images)).argmax(axis=1))
        counts = np.bincount(decisions, minlength=10)
        sums = np.stack([images[decisions == k].sum(axis=0) for k in range(10)])
    else:
        noise_nhwc = np.array(draw_samples(WHITE, 300, seed=5))
        response = responses.of_classifier(logits, ("decision",))
        moments = reverse_correlate(WHITE, response, 300, seed=5, sampling="independent")["decision"]
        counts, sums = moments.count, moments.sum
    ours = np.asarray(logits(jnp.asarray(noise_nhwc[:, :28, :28])))
    theirs = torch.tensor(noise_nhwc).permute(0, 3, 1, 2)
    np.testing.assert_allclose(net(theirs[:, :, :28, :28]).detach().flatten(1), ours, atol=1e-4)
    their_counts, their_sums = sums_of(net, theirs)
    assert (counts > 0).sum() > 1
    np.testing.assert_array_equal(their_counts, counts)
    np.testing.assert_allclose(their_sums, sums.reshape(10, -1), rtol=1e-4)


@pytest.mark.parametrize("name", ["authors_style", "tuned_torch", "field_torch"])
def test_a_torch_job_counts_every_sample_and_repeats_by_its_seed(
    name: str, parameters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from experiments import torch_baselines

    monkeypatch.setattr(torch_baselines, "_fastest", lambda make, sizes: (make(sizes[0]), sizes[0]))
    job, _ = torch_baselines.build(name, parameters, np.zeros((1, 28, 28, 1), np.float32))
    n = 2048 if name == "field_torch" else 300
    counts, sums = job(n, 1)
    assert counts.sum() == n
    assert sums.shape == (10, 784)
    assert sums.sum() / n == pytest.approx(784 / 2, rel=0.01)
    np.testing.assert_array_equal(sums, job(n, 1)[1])
    assert not np.array_equal(sums, job(n, 2)[1])


def run(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.benchmark", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_every_flag_with_its_default() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for flag in benchmark.Settings.__dataclass_fields__:
        assert f"  --{flag}" in shown.stdout
    assert "[7]" in shown.stdout


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--rounds=0", "rounds"), ("--seconds=-1", "seconds"), ("--out_dir=FILE/below", "cannot be written")],
)
def test_wrong_input_is_one_line_and_status_2(flag: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run(flag.replace("FILE", str(tmp_path / "file")))
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
