"""How fast is noise -> network -> decision -> sums by class, beside the same job in PyTorch?

All variants run the paper's network with the same weights (trained on the embedded digits, or from that checkpoint) on
uniform noise. Each lives in a process of its own. They run one after the other, round by round; ratios are taken within
a round, and their median is told. The machine should do nothing else: PyTorch's threads wait for one another, so on a
busy CPU PyTorch loses more than JAX, and no alternation sets that right.

  authors_style    PyTorch as in the paper's notebooks: images held in memory, autograd on, a loop over the classes
  tuned_torch      PyTorch tuned: channels_last, inference mode, the best of three batch sizes, one-hot matrix product
  compiled_torch   the same under torch.compile, with --compile
  field_torch      the window field in tuned PyTorch
  independent      wna_jax, independent noise images
  field            wna_jax, the window field

Without PyTorch only wna_jax is timed; pip install 'wna_jax[benchmark]' brings it. Both use a GPU if they find one.

  python -m experiments.benchmark                             about four minutes
  python -m experiments.benchmark --rounds=2 --seconds=0.5    a first look

Writes to --out_dir: benchmark.json, benchmark.png, config.json and log.jsonl.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import platform
import re
import resource
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import common
from wna_jax import checkpoints, data, figures, models, noise, progress, responses, reverse_correlation, training
from wna_jax.errors import InputError

flags.DEFINE_integer("rounds", 7, "how often each variant is timed", lower_bound=1)
flags.DEFINE_float("seconds", 3.0, "about how long each timing takes", lower_bound=0.01)
flags.DEFINE_boolean("compile", False, "time torch.compile as well, which needs a C++ compiler")

_BASELINES = {
    "authors_style": "PyTorch, the authors' style",
    "tuned_torch": "PyTorch, tuned",
    "compiled_torch": "PyTorch, tuned and compiled",
    "field_torch": "PyTorch, tuned, window field",
}
_OURS = {"independent": "wna_jax, independent images", "field": "wna_jax, window field"}
_LABELS = _BASELINES | _OURS
_MATMUL = "matmul"  # one more worker: the machine's own speed, where a sample is one row of a square matrix product
_SIDE, _ROWS = 4_096, 1_024

_MODEL, _IMAGE, _CLASSES = "paper_cnn", (28, 28, 1), 10
_FEWEST, _UNIT = 1_024, 4_096  # samples of the shortest run; longer runs are multiples of the unit
_TOLERANCE = 1e-4  # of logits, between PyTorch and JAX with the same weights

Ask = Callable[..., Any]
"""Sends its arguments to a worker and gives the answer."""
Job = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""(samples n, seed) -> counts and sums of the noise by decision, on the host."""
Rates = Mapping[str, Sequence[float]]
"""Samples a second of each variant, round by round."""


@dataclass(frozen=True)
class Settings:
    """The flags of one run, as a value."""

    rounds: int
    seconds: float
    compile: bool
    out_dir: str
    checkpoint_dir: str


class Timing(NamedTuple):
    """A worker's answer to one run."""

    seconds: float
    counts: list[int]
    """Samples by decision."""
    memory: int
    """The most resident bytes so far, beyond those of the imported libraries."""
    device_memory: int | None
    """The most bytes so far on a device with memory of its own."""


def run(settings: Settings) -> None:
    """One benchmark: settings -> files in settings.out_dir."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    out_dir = common.open_output(settings)
    common.write_config(out_dir, settings)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 4:
        print(f"the machine is busy (load {load:.1f} on {cores} cores): the ratios will flatter wna_jax")
    names = [name for name in _LABELS if name != "compiled_torch" or settings.compile]
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is missing, so only wna_jax is timed; for the ratios: pip install 'wna_jax[benchmark]'")
        names = list(_OURS)
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(_worker(name)) for name in (*names, _MATMUL)}
        report = stack.enter_context(progress.show(out_dir / "log.jsonl"))
        parameters, network = _network(settings, report)
        facts = _prepare(workers, parameters)
        sizes = {}
        for i, (name, ask) in enumerate(workers.items(), start=1):
            sizes[name], compile_seconds = _calibrate(ask, settings.seconds)
            facts[name]["compile_seconds"] = compile_seconds if name in _OURS else None
            report(progress.Progress("calibration", i, len(workers), "variants"))
        timings = _time(workers, sizes, settings.rounds, report)

    rates = {name: [sum(timing.counts) / timing.seconds for timing in row] for name, row in timings.items()}
    environment = json.loads((out_dir / "config.json").read_text())["environment"]
    results = {
        **{f"{ours}_vs_{other}": ratio(rates, ours, other) for ours in _OURS for other in _LABELS if ours != other},
        "variants": {name: facts[name] | _measured(name, rates, timings[name][-1], parameters) for name in names},
        "matmul_gflop_per_second": _spread([2 * _SIDE**2 * rate / 1e9 for rate in rates[_MATMUL]]),
        "network": network,
        "rounds": settings.rounds,
        "environment": environment | {"cpu": _cpu(), "cores": cores, "load_at_start": load},
    }
    common.write_json(out_dir / "benchmark.json", results)
    common.save(_draw(results, rates), out_dir / "benchmark.png")
    _summarise(out_dir, results, rates)


def ratio(rates: Rates, name: str, other: str) -> float | None:
    """How many times as fast a variant is as another: the median over the rounds; None if one was not run."""
    if name not in rates or other not in rates:
        return None
    return statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True))


def flop_per_sample(parameters: Mapping[str, Any], field: bool) -> float:
    """Operations of the network, two a multiply-add: for an image, or for a field shared by its windows."""
    side, windows = (152, 1_024) if field else (28, 1)
    flop = 0
    for layer in ("conv1", "conv2", "fc1", "fc2"):
        kernel = parameters[layer]["kernel"]
        side -= kernel.shape[0] - 1
        flop += 2 * side**2 * kernel.size
        side //= 2 if layer.startswith("conv") else 1
    return flop / windows


def _network(settings: Settings, report: progress.Report) -> tuple[Any, dict[str, Any]]:
    """Parameters of the paper's network as NumPy arrays, and what is known of it."""
    dataset = data.load("digits")
    epochs = training.default_epochs(dataset.name, _MODEL)
    spec = training.TrainingSpec(dataset.name, dataset.fingerprint, _MODEL, epochs=epochs)
    trained, _ = checkpoints.load_or_train(spec, dataset, Path(settings.checkpoint_dir), report=report)
    known = {"model": _MODEL, "dataset": dataset.name, "test_accuracy": trained.metrics["test_accuracy"]}
    known["parameters"] = models.parameter_count(trained.parameters)
    return jax.tree.map(np.asarray, trained.parameters), known


@contextlib.contextmanager
def _worker(name: str) -> Iterator[Ask]:
    """A process for one variant, until the end of the context."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, name), daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a worker inherits it: Ctrl-C is for the parent alone
    process.start()
    signal.signal(signal.SIGINT, handler)
    there.close()

    def ask(*message: Any) -> Any:
        try:
            here.send(message)
            return here.recv()
        except (EOFError, OSError) as error:
            raise InputError(f"{name} could not be run: its own error stands above") from error

    try:
        yield ask
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, name: str) -> None:
    """In the worker: builds the variant from the first message, then times a run for each message (n, seed)."""
    build, device_memory = _build_matmul if name == _MATMUL else _build_ours, _jax_device_memory
    if name in _BASELINES:
        from experiments import torch_baselines

        build, device_memory = torch_baselines.build, torch_baselines.device_memory
    libraries = _peak_memory()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        job, facts = build(name, *pipe.recv())
        pipe.send(facts)
        while True:
            n, seed = pipe.recv()
            started = time.perf_counter()
            counts, _ = job(n, seed)  # they are on the host, so the device has finished
            seconds = time.perf_counter() - started
            pipe.send(Timing(seconds, counts.tolist(), _peak_memory() - libraries, device_memory()))


def _build_ours(sampling: Any, parameters: Any, probe: np.ndarray) -> tuple[Job, dict[str, Any]]:
    logits = training.logits_function(models.create(_MODEL, _IMAGE, _CLASSES), jax.device_put(parameters))
    white, response = noise.uniform(_IMAGE), responses.of_classifier(logits, ("decision",))

    def job(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        moments = reverse_correlation.reverse_correlate(white, response, n, seed=seed, sampling=sampling)["decision"]
        return moments.count, moments.sum

    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    return job, {"device": device, "threads": os.cpu_count(), "logits": np.asarray(jax.jit(logits)(probe))}


def _build_matmul(*_: Any) -> tuple[Job, dict[str, Any]]:
    rows, matrix = jnp.ones((_ROWS, _SIDE)), jnp.ones((_SIDE, _SIDE))
    multiply = jax.jit(jnp.matmul)

    def job(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        products = range(0, n, _ROWS)
        for _ in products:
            product = multiply(rows, matrix)
        return np.array([len(products) * _ROWS]), np.asarray(product[0, 0])

    return job, {}


def _jax_device_memory() -> int | None:
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _peak_memory() -> int:
    """The most bytes that this process had resident."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:  # on Linux ru_maxrss would start at what the parent had
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _prepare(workers: Mapping[str, Ask], parameters: Any) -> dict[str, dict[str, Any]]:
    """Has the variants built, and sees that their logits are those of our network in full precision."""
    probe = np.random.default_rng(0).random((64, *_IMAGE), np.float32)
    logits = training.logits_function(models.create(_MODEL, _IMAGE, _CLASSES), parameters)
    with jax.default_matmul_precision("highest"):
        expected = np.asarray(jax.jit(logits)(probe))
    facts = {}
    for name, ask in workers.items():
        facts[name] = ask(parameters, probe)
        as_run = facts[name].pop("logits", expected)
        converted = float(np.abs(facts[name].pop("exact_logits", expected) - expected).max())
        if not converted <= _TOLERANCE:
            raise RuntimeError(f"the logits of {name} differ from ours by {converted:.2g}: it is not the same network")
        facts[name]["largest_logit_difference"] = float(np.abs(as_run - expected).max())
    return facts


def _calibrate(ask: Ask, seconds: float) -> tuple[int, float]:
    """How many samples take about so many seconds, and how much longer the first run took than the next.

    Every size is run more than once, since each may have to be compiled; nothing is left to warm up.
    """
    n = _FEWEST
    first, best = ask(n, 0).seconds, ask(n, 0).seconds
    compile_seconds = max(0.0, first - best)
    while best < seconds / 4:
        n *= 4
        best = min(ask(n, 0).seconds, ask(n, 0).seconds)
    n = max(_FEWEST, round(n * seconds / best))
    n -= n % _UNIT if n > _UNIT else 0
    ask(n, 0)
    return n, compile_seconds


def _time(
    workers: Mapping[str, Ask], sizes: Mapping[str, int], rounds: int, report: progress.Report
) -> dict[str, list[Timing]]:
    """All variants one after the other, round by round, every second round backwards."""
    timings: dict[str, list[Timing]] = {name: [] for name in workers}
    for seed in range(rounds):
        for name in list(workers)[:: -1 if seed % 2 else 1]:
            timings[name].append(workers[name](sizes[name], seed))
            done = sum(map(len, timings.values()))
            seconds = {name: timings[name][-1].seconds}
            report(progress.Progress("rounds", done, rounds * len(workers), "runs", seconds))
    return timings


def _measured(name: str, rates: Rates, last: Timing, parameters: Any) -> dict[str, Any]:
    flop = flop_per_sample(parameters, field=name in ("field", "field_torch"))
    return {
        "samples_per_second": _spread(rates[name]),
        "samples_per_run": sum(last.counts),
        "mflop_per_sample": flop / 1e6,
        "share_of_matmul_peak": (ratio(rates, name, _MATMUL) or 0) * flop / (2 * _SIDE**2),
        "peak_memory_mb": last.memory / 1e6,
        "peak_device_memory_mb": None if last.device_memory is None else last.device_memory / 1e6,
        "counts_of_last_run": last.counts,
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _draw(results: dict[str, Any], rates: Rates) -> Figure:
    captions = []
    for name, variant in results["variants"].items():
        tuned, authors = ratio(rates, name, "tuned_torch"), ratio(rates, name, "authors_style")
        times = [f"{tuned:.1f}× tuned PyTorch"] if tuned and name not in ("tuned_torch", "authors_style") else []
        times += [f"{authors:.1f}× authors' style"] if authors and name != "authors_style" else []
        captions.append(f"{variant['samples_per_second']['median']:,.0f}\n{', '.join(times)}".strip())
    where = results["environment"]
    devices = [f"{where['cores']} cores of {where['cpu']}", where["device"]]
    versions = [f"jax {where['jax']}", *{f"torch {v['torch']}" for v in results["variants"].values() if "torch" in v}]
    return figures.speeds(
        {_LABELS[name]: rates[name] for name in results["variants"]},
        captions,
        list(_OURS.values()),
        "White noise through the paper's network to sums by class: samples a second",
        f"bars: medians of {results['rounds']} alternated rounds, which are the points\n"
        f"{', '.join(devices[: 1 if where['device'].endswith('(cpu)') else 2] + versions)}",
    )


def _summarise(out_dir: Path, results: dict[str, Any], rates: Rates) -> None:
    print(f"{'':29s}{'samples/s':>12s}{'x tuned':>9s}{'x authors':>11s}{'of peak':>9s}{'memory':>11s}{'compiled':>10s}")
    for name, variant in results["variants"].items():
        tuned, authors = ratio(rates, name, "tuned_torch"), ratio(rates, name, "authors_style")
        times = f"{tuned:9.2f}{authors:11.2f}" if tuned and authors else f"{'-':>9s}{'-':>11s}"
        compiled = "" if variant["compile_seconds"] is None else f"{variant['compile_seconds']:8.1f} s"
        speed, share = variant["samples_per_second"]["median"], variant["share_of_matmul_peak"]
        print(f"{_LABELS[name]:29s}{speed:12,.0f}{times}{share:9.1%}{variant['peak_memory_mb']:8,.0f} MB{compiled}")
    print(f"matmul peak     {results['matmul_gflop_per_second']['median']:,.0f} GFLOP/s in float32")
    devices = {name: variant["device"] for name, variant in results["variants"].items()}
    if len({device.endswith("cpu") for device in devices.values()}) > 1:
        print(f"NOT COMPARABLE  the variants ran on different devices: {devices}")
    print(f"look at         {out_dir / 'benchmark.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
