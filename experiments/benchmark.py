"""How fast is noise -> network -> decision -> sums by class, compared with the same job in PyTorch?

All variants run the paper's network with the same weights (trained on the embedded digits, or from that checkpoint) on
uniform noise. Each has a process of its own. They run one after the other, round by round; ratios are taken within a
round, and their median is reported. The machine should do nothing else: PyTorch's threads wait for one another, so on a
busy CPU PyTorch loses more than JAX, and no alternation corrects that.

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
import functools
import importlib.util
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch, settings, shared, timing
from experiments.settings import NetworkSettings, setting
from experiments.timing import Ask, Job, Rates, Timing, Variant, ratio
from wna_jax import correlation, data, figures, noise, responses
from wna_jax.networks import Network, models, training
from wna_jax.runs.progress import Progress

_BF16 = "_bfloat16"
_BASELINES = {
    "authors_style": "PyTorch, the authors' style",
    "tuned_torch": "PyTorch, tuned",
    "compiled_torch": "PyTorch, tuned and compiled",
    "field_torch": "PyTorch, tuned, window field",
}
_OURS = {"independent": "wna_jax, independent images", "field": "wna_jax, window field"}
_BASELINES |= {f"{name}{_BF16}": f"{_BASELINES[name]}, bfloat16" for name in ("compiled_torch", "field_torch")}
_OURS |= {f"{name}{_BF16}": f"{label}, bfloat16" for name, label in _OURS.items()}
_LABELS = _BASELINES | _OURS
_MATMUL = "matmul"  # one more worker, for the machine's own speed: a sample is a row of a square matrix product
_SIDE, _ROWS = 4_096, 1_024

_MODEL, _IMAGE, _CLASSES = "paper_cnn", (28, 28, 1), 10
_TOLERANCE = 1e-4  # of logits, between PyTorch and JAX with the same weights


class Settings(settings.Settings):
    """The settings of one run."""

    rounds: int = setting(7, "How often each variant is timed.", at_least=1)
    seconds: float = setting(3.0, "About how long each timing takes.", at_least=0.01)
    compile: bool = setting(False, "Time torch.compile as well, which needs a C++ compiler.")
    checkpoint_dir: str = setting("runs/checkpoints", "Where trained networks are kept, and found again.")


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Times all variants that can run here, and compares them."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    notes = []
    if load > cores / 4:
        notes.append(f"the machine is busy (load {load:.1f} on {cores} cores): the ratios flatter wna_jax")
    names = [name for name in _LABELS if settings.compile or not name.startswith("compiled_torch")]
    if jax.default_backend() == "cpu":  # which has no units for bfloat16
        names = [name for name in names if not name.endswith(_BF16)]
    if importlib.util.find_spec("torch") is None:
        notes.append("PyTorch is missing, so only wna_jax is timed; for the ratios: pip install 'wna_jax[benchmark]'")
        names = [name for name in names if name in _OURS]
    own = NetworkSettings(model=_MODEL, checkpoint_dir=settings.checkpoint_dir)
    trained = shared.trained_network(own, data.load(own.dataset), report)
    parameters = trained.network.parameters
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(timing.worker(_load, name)) for name in (*names, _MATMUL)}
        facts = _prepare(workers, trained.network)
        sizes = {}
        for i, (name, ask) in enumerate(workers.items(), start=1):
            sizes[name], compile_seconds = timing.calibrate(ask, settings.seconds)
            facts[name]["compile_seconds"] = compile_seconds if name in _OURS else None
            report(Progress("calibration", i, len(workers), "variants"))
        timings = timing.alternate(workers, sizes, settings.rounds, report)

    rates = {name: [each.rate for each in row] for name, row in timings.items()}
    results = {
        **{f"{ours}_vs_{other}": ratio(rates, ours, other) for ours in _OURS for other in _LABELS if ours != other},
        "variants": {name: facts[name] | _measured(name, rates, timings[name][-1], parameters) for name in names},
        "matmul_gflop_per_second": timing.spread([2 * _SIDE**2 * rate / 1e9 for rate in rates[_MATMUL]]),
        "network": {
            "model": _MODEL,
            "dataset": own.dataset,
            "test_accuracy": trained.test_accuracy,
            "parameters": trained.network.parameter_count,
        },
        "rounds": settings.rounds,
        "environment": launch.environment() | {"cpu": _cpu(), "cores": cores, "load_at_start": load},
    }
    draw = functools.partial(_draw, results, rates)
    return launch.Result(results, [*notes, *_table(results, rates)], draw, metrics_file="benchmark.json")


def flop_per_sample(parameters: Mapping[str, Any], field: bool) -> float:
    """Operations of the network, two per multiply-add: for an image, or for a field shared by its windows."""
    side, windows = (152, 1_024) if field else (28, 1)
    flop = 0
    for layer in ("conv1", "conv2", "fc1", "fc2"):
        kernel = parameters[layer]["kernel"]
        side -= kernel.shape[0] - 1
        flop += 2 * side**2 * kernel.size
        side //= 2 if layer.startswith("conv") else 1
    return flop / windows


def _load(name: str) -> Variant:
    if name in _BASELINES:
        from experiments import torch_baselines

        return Variant(functools.partial(torch_baselines.build, name), torch_baselines.device_memory)
    return Variant(_build_matmul if name == _MATMUL else functools.partial(_build_ours, name), _jax_device_memory)


def _build_ours(sampling: Any, parameters: Any, probe: np.ndarray) -> tuple[Job, dict[str, Any]]:
    precision = "bfloat16" if sampling.endswith(_BF16) else "float32"
    network = Network(models.create(_MODEL, _IMAGE, _CLASSES), jax.device_put(parameters), precision)
    sampling = sampling.removesuffix(_BF16)
    white, response = noise.uniform(_IMAGE), responses.of_classifier(network, ("decision",))

    def job(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        moments = correlation.reverse_correlate(white, response, n, seed=seed, sampling=sampling)["decision"]
        return moments.count, moments.sum

    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    return job, {"device": device, "threads": os.cpu_count(), "logits": training.predict(network, probe)}


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


def _prepare(workers: Mapping[str, Ask], network: Network) -> dict[str, dict[str, Any]]:
    """Has the variants built, and checks that their logits are those of our network in full precision."""
    probe = np.random.default_rng(0).random((64, *_IMAGE), np.float32)
    with jax.default_matmul_precision("highest"):
        expected = training.predict(network, probe)
    facts = {}
    for name, ask in workers.items():
        facts[name] = ask(network.parameters, probe)
        as_run = facts[name].pop("logits", expected)
        converted = float(np.abs(facts[name].pop("exact_logits", expected) - expected).max())
        if not converted <= _TOLERANCE:
            raise RuntimeError(f"the logits of {name} differ from ours by {converted:.2g}: it is not the same network")
        facts[name]["largest_logit_difference"] = float(np.abs(as_run - expected).max())
    return facts


def _measured(name: str, rates: Rates, last: Timing, parameters: Any) -> dict[str, Any]:
    flop = flop_per_sample(parameters, field=name.startswith("field"))
    return {
        "samples_per_second": timing.spread(rates[name]),
        "samples_per_run": sum(last.counts),
        "mflop_per_sample": flop / 1e6,
        "share_of_matmul_peak": (ratio(rates, name, _MATMUL) or 0) * flop / (2 * _SIDE**2),
        "peak_memory_mb": last.memory / 1e6,
        "peak_device_memory_mb": None if last.device_memory is None else last.device_memory / 1e6,
        "counts_of_last_run": last.counts,
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _draw(results: dict[str, Any], rates: Rates) -> launch.Drawn:
    captions = []
    for name, variant in results["variants"].items():
        tuned, authors = ratio(rates, name, "tuned_torch"), ratio(rates, name, "authors_style")
        times = [f"{tuned:.1f}× tuned PyTorch"] if tuned and name not in ("tuned_torch", "authors_style") else []
        times += [f"{authors:.1f}× authors' style"] if authors and name != "authors_style" else []
        captions.append(f"{variant['samples_per_second']['median']:,.0f}\n{', '.join(times)}".strip())
    where = results["environment"]
    devices = [f"{where['cores']} cores of {where['cpu']}"]
    devices += [] if where["device"].endswith("(cpu)") else [where["device"]]
    versions = [f"jax {where['jax']}", *{f"torch {v['torch']}" for v in results["variants"].values() if "torch" in v}]
    shown = {_LABELS[name]: rates[name] for name in results["variants"]}
    title = "White noise through the paper's network to sums by class: samples per second"
    note = f"bars: medians of {results['rounds']} alternated rounds, which are the points\n"
    note += ", ".join(devices + versions)
    yield "benchmark.png", figures.speeds(shown, captions, list(_OURS.values()), title, note)


def _table(results: dict[str, Any], rates: Rates) -> Iterator[str]:
    yield f"{'':39s}{'samples/s':>12s}{'x tuned':>9s}{'x authors':>11s}{'of peak':>9s}{'memory':>11s}{'compiled':>10s}"
    for name, variant in results["variants"].items():
        tuned, authors = ratio(rates, name, "tuned_torch"), ratio(rates, name, "authors_style")
        times = f"{tuned:9.2f}{authors:11.2f}" if tuned and authors else f"{'-':>9s}{'-':>11s}"
        compiled = "" if variant["compile_seconds"] is None else f"{variant['compile_seconds']:8.1f} s"
        speed, share = variant["samples_per_second"]["median"], variant["share_of_matmul_peak"]
        yield f"{_LABELS[name]:39s}{speed:12,.0f}{times}{share:9.1%}{variant['peak_memory_mb']:8,.0f} MB{compiled}"
    yield f"matmul peak     {results['matmul_gflop_per_second']['median']:,.0f} GFLOP/s in float32"
    devices = {name: variant["device"] for name, variant in results["variants"].items()}
    if len({device.endswith("cpu") for device in devices.values()}) > 1:
        yield f"NOT COMPARABLE  the variants ran on different devices: {devices}"


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    launch.main(run, Settings)
