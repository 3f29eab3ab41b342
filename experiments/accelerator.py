"""`experiments.benchmark --accelerator`: all figures of an accelerator, each part in a process of its own.

loop       the batch program alone, many batches per dispatch, and the whole loop, beside noise, network and sums alone
long       one run of --num_samples windows: time, memory, and what it would take at 10^9
training   the paper's network with its usual epochs, three seeds: the first compiles everything
maps       noise_maps from nothing to its figures, in an empty folder, and where its time goes
bfloat16   the maps and decisions of bfloat16 beside those of float32
peers      ours beside PyTorch of the same precision
"""

import functools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import launch, timing, workload
from wna_jax import correlation, data, maps, noise, responses
from wna_jax.correlation import fields, loop
from wna_jax.correlation.program import Program, sums_of_batch
from wna_jax.networks import Network, training
from wna_jax.runs import compilation, files, processes
from wna_jax.runs.progress import Progress
from wna_jax.runs.seeds import key_of

_AT_ONCE = 16
_SEEDS = 3
_COMPARED = 16_384  # images whose decisions are compared


def run(
    settings: Any,
    network: Network,
    compare: Callable[[launch.Report], launch.Result],
    report: launch.Report,
) -> launch.Result:
    """Takes the parts that the settings name, one after the other. The file is written again after each of them."""
    results: dict[str, Any] = {"environment": launch.environment()}
    summary: list[str] = []
    for i, name in enumerate(settings.parts, start=1):
        started = time.perf_counter()
        try:
            if name == "peers":
                compared = compare(report)
                results[name], lines = dict(compared.metrics), list(compared.summary)
            else:
                results[name] = _apart(_PARTS[name], settings, network.parameters)
                lines = list(_SAID[name](results[name]))
        except Exception as error:  # on a device that is lent for minutes, the other parts are worth having
            results[name] = {"failed": f"{type(error).__name__}: {error}"}
            lines = [results[name]["failed"]]
        seconds = round(time.perf_counter() - started, 1)
        results[name]["seconds_of_part"] = seconds
        summary += ["", f"{name.upper()}  ({seconds} s)", *lines]
        files.write_json(settings.folder / "accelerator.json", results)
        report(Progress("parts", i, len(settings.parts), "parts"))
    return launch.Result(results, summary, metrics_file="accelerator.json")


def _apart(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The result of a function in a process of its own, whose memory on the device is free afterwards."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, processes.keep_compiled_programs) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise RuntimeError("its process ended: its own error stands above") from None


def _loop(settings: Any, parameters: Any) -> dict[str, Any]:
    found = {sampling: _rates_of_loop(settings, parameters, sampling) for sampling in workload.OURS}
    return {"samples_per_second": found}


def _rates_of_loop(settings: Any, parameters: Any, sampling: str) -> dict[str, Any]:
    """Samples per second of the loop and of what it consists of."""
    white, respond, options = workload.parts(workload.network(parameters), sampling)
    geometry = fields.find_field(white, respond) if sampling == "field" else fields.independent(white)
    assert isinstance(geometry, fields.Geometry)
    draws = loop._draws_per_batch(None, geometry, white)
    batch = draws * geometry.windows
    program = Program.of(white, respond, geometry, draws)

    def drawn(batch: int) -> jax.Array:
        return compilation.call(_draw, program.stimulus, key_of(0), *fields.two_words(batch * draws), draws)

    images = drawn(0)
    weights = jax.block_until_ready(compilation.call(respond, images))

    def rate(start: Callable[[int], Any], samples: int) -> float:
        """Of work that is started again and again, for some seconds, and waited for at the end alone."""
        jax.block_until_ready(start(0))
        started = time.perf_counter()
        jax.block_until_ready(start(1))
        repeats = max(2, round(settings.seconds / max(1e-6, time.perf_counter() - started)))
        started = time.perf_counter()
        for i in range(2, 2 + repeats):
            last = start(i)
        jax.block_until_ready(last)
        return repeats * samples / (time.perf_counter() - started)

    whole: list[float] = []
    n = 4 * batch
    while not whole or whole[-1] * n < 0.7 * settings.seconds or len(whole) < 2:
        started = time.perf_counter()
        correlation.reverse_correlate(white, respond, n, **options)
        whole.append((time.perf_counter() - started) / n)
        n = max(n, round(settings.seconds / whole[-1] / batch) * batch) if len(whole) > 1 else n
    return {
        "batch": batch,
        "noise": rate(drawn, batch),
        "network": rate(lambda _: compilation.call(respond, images), batch),
        "sums": rate(lambda _: _sums(geometry, white.mean, weights, images, np.int32(batch)), batch),
        "program": rate(lambda i: program.dispatch(0, range(i, i + 1), batch, 1), batch),
        f"program of {_AT_ONCE}": rate(
            lambda i: program.dispatch(0, range(_AT_ONCE * i, _AT_ONCE * (i + 1)), batch, _AT_ONCE), _AT_ONCE * batch
        ),
        "loop": 1 / whole[-1],
        "seconds_of_first_loop": whole[0] * 4 * batch,
    }


def _draw(stimulus: noise.Noise, key: jax.Array, high: Any, low: Any, draws: int) -> jax.Array:
    return fields.draw_and_present(stimulus, key, high, low, draws)[1]


@functools.partial(jax.jit, static_argnums=0)
def _sums(geometry: fields.Geometry, mean: jax.Array, weights: Any, images: jax.Array, size: jax.Array) -> Any:
    return sums_of_batch(geometry, mean, weights, images, size)


def _long(settings: Any, parameters: Any) -> dict[str, Any]:
    white, respond, options = workload.parts(workload.network(parameters), "field")
    correlation.reverse_correlate(white, respond, 100_000, **options)
    after_first = timing._peak_memory()
    started = time.perf_counter()
    moments = correlation.reverse_correlate(white, respond, settings.num_samples, **options)["decision"]
    seconds = time.perf_counter() - started
    return {
        "num_samples": settings.num_samples,
        "seconds": seconds,
        "samples_per_second": settings.num_samples / seconds,
        "seconds_for_1e9": seconds * 1e9 / settings.num_samples,
        "counted": int(moments.count.sum()),
        "host_memory_mb_after_100_000": after_first / 1e6,
        "host_memory_mb_at_the_end": timing._peak_memory() / 1e6,
        "device_memory_mb": (workload.device_memory() or 0) / 1e6,
        "sums_mb": sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(moments)) / 1e6,
    }


def _training(settings: Any, _: Any) -> dict[str, Any]:
    dataset = data.load(settings.dataset, settings.data_dir)
    epochs = training.default_epochs(dataset.name, workload.MODEL)
    rows = []
    for seed in range(_SEEDS):
        spec = training.TrainingSpec(dataset.name, dataset.fingerprint, workload.MODEL, seed=seed, epochs=epochs)
        started = time.perf_counter()
        trained = training.fit(spec, dataset)
        rows.append((time.perf_counter() - started, trained.metrics["test_accuracy"]))
    seconds, accuracies = zip(*rows, strict=True)
    return {
        "dataset": settings.dataset,
        "epochs": epochs,
        "seconds": seconds,
        "test_accuracy": accuracies,
        "mean_test_accuracy": statistics.mean(accuracies),
        "images_per_second_once_compiled": epochs * len(dataset.train.labels) / min(seconds),
    }


def _maps(settings: Any, _: Any) -> dict[str, Any]:
    """Twice from nothing: once as a user does it, once under the profiler."""
    with tempfile.TemporaryDirectory() as folder:

        def command(module: str, which: str, *before: str) -> list[str]:
            own = [f"--out_dir={folder}/{which}", f"--checkpoint_dir={folder}/{which}/checkpoints"]
            own += [f"--dataset={settings.dataset}", f"--num_samples={settings.num_samples // 100}"]
            own += [f"--data_dir={settings.data_dir}"] if settings.data_dir else []
            return [sys.executable, "-m", f"experiments.{module}", *before, *own]

        def seconds(arguments: list[str], cache: str) -> float:
            started = time.perf_counter()
            environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/{cache}"}
            subprocess.run(arguments, env=environment, check=True, capture_output=True)
            return time.perf_counter() - started

        plain = seconds(command("noise_maps", "plain"), "programs")
        again = seconds([*command("noise_maps", "plain"), "--seed=1", f"--out_dir={folder}/again"], "programs")
        steps = Path(folder, "steps.json")
        seconds(command("profile", "profiled", f"--json={steps}", "noise_maps"), "none")
        metrics = json.loads(Path(folder, "plain", "metrics.json").read_text())
        kept = ("test_accuracy", "counts", "samples_per_second", "noise_seconds", "sampling")
        return {
            "num_samples": settings.num_samples // 100,
            "seconds_from_nothing": plain,
            "seconds_with_another_seed": again,
            "training_seconds": metrics["training"]["training_seconds"],
            **{name: metrics[name] for name in kept},
            "profiled": json.loads(steps.read_text()),
        }


def _bfloat16(settings: Any, parameters: Any) -> dict[str, Any]:
    dataset = data.load(settings.dataset, settings.data_dir)
    stimulus = noise.create("matched", dataset)
    shown = correlation.draw_samples(stimulus, _COMPARED, seed=1)
    answers, found = [], []
    for precision in ("float32", "bfloat16"):
        network = workload.network(parameters, precision)
        answers.append(np.asarray(compilation.call(network, shown)))
        moments = correlation.reverse_correlate(stimulus, responses.of_classifier(network), settings.num_samples // 100)
        found.append({name: maps.classification_images(own, stimulus) for name, own in moments.items()})
    whole, half = found
    return {
        "num_samples": settings.num_samples // 100,
        "noise": stimulus.name,
        "decisions_that_differ": float(np.mean(answers[0].argmax(axis=1) != answers[1].argmax(axis=1))),
        "of_images": _COMPARED,
        "largest_logit_difference": float(np.abs(answers[0] - answers[1]).max()),
        "counts": [of["decision"].count.tolist() for of in found],
        "map_correlation": {
            name: files.or_none(_correlations(whole[name].images, half[name].images)) for name in whole
        },
        "largest_difference_in_standard_errors": {
            name: files.or_none(_furthest(whole[name], half[name])) for name in whole
        },
    }


def _correlations(first: np.ma.MaskedArray, second: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Of each class's two maps."""
    a, b = (np.ma.reshape(each, (len(each), -1)) for each in (first, second))
    a, b = (each - each.mean(axis=1, keepdims=True) for each in (a, b))
    return (a * b).sum(axis=1) / np.ma.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def _furthest(first: Any, second: Any) -> np.ma.MaskedArray:
    return np.ma.abs((first.images - second.images) / first.standard_error).reshape(len(first.images), -1).max(axis=1)


def _loop_said(results: dict[str, Any]) -> Iterator[str]:
    rows = results["samples_per_second"]
    columns = [name for name in next(iter(rows.values())) if name not in ("batch", "seconds_of_first_loop")]
    yield f"{'million per second':26s}" + "".join(f"{column:>15s}" for column in columns) + f"{'first call':>12s}"
    for name, row in rows.items():
        numbers = "".join(f"{row[column] / 1e6:15.3f}" for column in columns)
        yield f"{name:26s}{numbers}{row['seconds_of_first_loop']:10.1f} s"


def _long_said(results: dict[str, Any]) -> Iterator[str]:
    rate, n = results["samples_per_second"], results["num_samples"]
    yield f"{n:,} windows in {results['seconds']:.1f} s: {rate:,.0f} per second; 10^9 take {1e9 / rate:,.0f} s"
    first, last = (results[f"host_memory_mb_{when}"] for when in ("after_100_000", "at_the_end"))
    device = results["device_memory_mb"]
    yield f"memory {first:,.0f} MB after 100,000, {last:,.0f} MB at the end; of the device {device:,.0f} MB"


def _training_said(results: dict[str, Any]) -> Iterator[str]:
    seconds = ", ".join(f"{each:.1f}" for each in results["seconds"])
    yield f"{results['epochs']} epochs of {results['dataset']}: {seconds} s (the first compiles)"
    yield f"test accuracy {results['mean_test_accuracy']:.2%}, the mean of {len(results['seconds'])} seeds"


def _maps_said(results: dict[str, Any]) -> Iterator[str]:
    nothing, again = results["seconds_from_nothing"], results["seconds_with_another_seed"]
    yield f"{results['num_samples']:,} samples from nothing in {nothing:.1f} s, with another seed in {again:.1f} s"
    yield f"training {results['training_seconds']} s, noise {results['noise_seconds']} s; under the profiler:"
    for step in results["profiled"]["steps"][:14]:
        yield f"{step['seconds']:8.2f} s  {step['caller']:20s}{step['name']}"


def _bfloat16_said(results: dict[str, Any]) -> Iterator[str]:
    known = [value for values in results["map_correlation"].values() for value in values if value is not None]
    share, where = results["decisions_that_differ"], f"{results['of_images']:,} images of {results['noise']} noise"
    yield f"{share:.3%} of the decisions about {where} differ"
    yield f"maps of {results['num_samples']:,} samples correlate by at least {min(known, default=np.nan):.4f}"


_PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "loop": _loop,
    "long": _long,
    "training": _training,
    "maps": _maps,
    "bfloat16": _bfloat16,
}
_SAID: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "loop": _loop_said,
    "long": _long_said,
    "training": _training_said,
    "maps": _maps_said,
    "bfloat16": _bfloat16_said,
}
PARTS = (*_PARTS, "peers")
