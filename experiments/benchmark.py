"""How fast is noise -> network -> decision -> sums by class, compared with the same job in PyTorch?

All variants run the paper's network with the same weights (trained on the embedded digits, or from that checkpoint) on
uniform noise. Each has a process of its own. They run one after the other, round by round; ratios are taken within a
round, and their median is reported.

  authors_style    PyTorch as in the paper's notebooks: images held in memory, autograd on, a loop over the classes
  tuned_torch      PyTorch tuned: channels_last, inference mode, the best of three batch sizes, one-hot matrix product
  compiled_torch   the same under torch.compile (in max-autotune on a GPU), with --compile
  field_torch      the window field in tuned PyTorch
  independent      wna_jax, independent noise images
  field            wna_jax, the window field

On a GPU there are ours, compiled_torch and field_torch in bfloat16, too. Without PyTorch only wna_jax is timed;
pip install 'wna_jax[benchmark]' brings it. Both use a GPU if they find one.

The machine should do nothing else: PyTorch's threads wait for one another, so on a busy CPU PyTorch loses more than
JAX, and no alternation corrects that. So the CPU time of other processes is measured during each timing. Where it is
more than a tenth of all cores, or where matrix products are mostly slower than the best of them, figures are called
NOT COMPARABLE.

  python -m experiments.benchmark                             about four minutes
  python -m experiments.benchmark --rounds=2 --seconds=0.5    a first look
  python -m experiments.benchmark --scaling                   ours on 1, 2, 4, 8, ... devices (made up on a CPU)
  python -m experiments.benchmark --accelerator               all figures of an accelerator, some of them with --parts

Writes to --out_dir: benchmark.json, benchmark.png, config.json and log.jsonl; scaling.json and scaling.png with
--scaling, accelerator.json with --accelerator.
"""

import contextlib
import functools
import importlib.util
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments import accelerator, launch, machine, scaling, settings, shared, timing, workload
from experiments.accelerator import PARTS
from experiments.settings import NetworkSettings, setting
from experiments.timing import Ask, Rates, Timing, ratio
from experiments.workload import BF16, MATMUL, OURS
from wna_jax import data, figures
from wna_jax.networks import Network, training
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress

_BASELINES = {
    "authors_style": "PyTorch, the authors' style",
    "tuned_torch": "PyTorch, tuned",
    "compiled_torch": "PyTorch, tuned and compiled",
    "field_torch": "PyTorch, tuned, window field",
}
_BASELINES |= {f"{name}{BF16}": f"{_BASELINES[name]}, bfloat16" for name in ("compiled_torch", "field_torch")}
_OURS = OURS | {f"{name}{BF16}": f"{label}, bfloat16" for name, label in OURS.items()}
_LABELS = _BASELINES | _OURS

_TOLERANCE = 1e-4  # of logits, between PyTorch and JAX with the same weights
_SLOWED = 0.9  # of the best matrix products of a run: where the median is less, something slowed the machine


class Settings(settings.Settings):
    """The settings of one run."""

    rounds: int = setting(7, "How often each variant is timed.", at_least=1)
    seconds: float = setting(3.0, "About how long each timing takes.", at_least=0.01)
    compile: bool = setting(False, "Time torch.compile as well, which needs a C++ compiler.")
    scaling: bool = setting(False, "Time ours on 1, 2, 4, 8, ... devices, in the place of PyTorch.")
    accelerator: bool = setting(
        False, "Take all figures of an accelerator: --parts, one after the other, each in a process of its own."
    )
    parts: tuple[str, ...] = setting(PARTS, f"With --accelerator: some of {', '.join(PARTS)}.", choices=PARTS)
    num_samples: int = setting(
        1_000_000_000,
        "With --accelerator: samples of the longest run. Maps are made of a hundredth of them.",
        at_least=100_000,
    )
    dataset: str = setting("digits", "The data set of the network, and of --parts=training,maps,bfloat16.")
    data_dir: str | None = setting(None, "A folder with one folder per data set, such as DIR/mnist/*.gz.")
    checkpoint_dir: str = setting("runs/checkpoints", "Where trained networks are kept, and found again.")


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Times all variants that can run here, and compares them; or what else was asked for."""
    if settings.scaling and settings.accelerator:
        raise InputError("scaling and accelerator are two benchmarks: ask for one of them")
    trained = _network(settings, report)
    if settings.scaling:
        return scaling.run(settings, trained.network, report)
    if settings.accelerator:
        return accelerator.run(settings, trained.network, functools.partial(compare, settings, trained), report)
    return compare(settings, trained, report)


def _network(settings: Settings, report: launch.Report) -> shared.TrainedNetwork:
    own = NetworkSettings(
        model=workload.MODEL,
        dataset=settings.dataset,
        data_dir=settings.data_dir,
        checkpoint_dir=settings.checkpoint_dir,
    )
    dataset = data.load(own.dataset, own.data_dir, report)
    if (dataset.image_shape, dataset.num_classes) != (workload.IMAGE, workload.CLASSES):
        raise InputError(
            f"dataset is {settings.dataset}, {dataset.num_classes} classes of {dataset.image_shape}: the benchmark's "
            "network takes digits, mnist or fashion_mnist"
        )
    return shared.trained_network(own, dataset, report)


def compare(settings: Settings, trained: shared.TrainedNetwork, report: launch.Report) -> launch.Result:
    """Ours beside PyTorch."""
    before, notes = machine.others(), []
    compiled = settings.compile or settings.accelerator
    names = [name for name in _LABELS if compiled or not name.startswith("compiled_torch")]
    if jax.default_backend() == "cpu":  # which has no units for bfloat16
        names = [name for name in names if not name.endswith(BF16)]
    if importlib.util.find_spec("torch") is None:
        notes.append("PyTorch is missing, so only wna_jax is timed; for the ratios: pip install 'wna_jax[benchmark]'")
        names = [name for name in names if name in _OURS]
    parameters = trained.network.parameters
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(timing.worker(workload.load, name)) for name in (*names, MATMUL)}
        facts, failed = _prepare(workers, trained.network)
        notes += [f"{_LABELS[name]} could not be run: its own error stands above" for name in failed]
        names = [name for name in names if name not in failed]
        sizes = {}
        for i, name in enumerate(facts, start=1):
            sizes[name], compile_seconds = timing.calibrate(workers[name], settings.seconds)
            facts[name]["compile_seconds"] = compile_seconds if name in _OURS else None
            report(Progress("calibration", i, len(facts), "variants"))
        timings = timing.alternate({name: workers[name] for name in facts}, sizes, settings.rounds, report)

    rates = {name: [each.rate for each in row] for name, row in timings.items()}
    others = [each.others for row in timings.values() for each in row]
    objections = _objections(before, others, rates[MATMUL])
    results = {
        "comparable": not objections,
        "objections": objections,
        **{f"{ours}_vs_{other}": ratio(rates, ours, other) for ours in _OURS for other in _LABELS if ours != other},
        "strongest_pytorch": {ours: _strongest(rates, ours) for ours in _OURS if ours in rates},
        "variants": {name: facts[name] | _measured(name, rates, timings[name], parameters) for name in names},
        "matmul_gflop_per_second": timing.spread([2 * workload.SIDE**2 * rate / 1e9 for rate in rates[MATMUL]]),
        "network": {
            "model": workload.MODEL,
            "dataset": settings.dataset,
            "test_accuracy": trained.test_accuracy,
            "parameters": trained.network.parameter_count,
        },
        "rounds": settings.rounds,
        "environment": launch.environment()
        | {"cpu": machine.cpu(), "cores": os.cpu_count() or 1, "cores_of_others_before": before},
    }
    draw = functools.partial(_draw, results, rates)
    if objections:
        notes.append(f"NOT COMPARABLE  {'; '.join(objections)}: a busy machine flatters wna_jax")
    return launch.Result(results, [*notes, *_table(results, rates)], draw, metrics_file="benchmark.json")


def _objections(before: float | None, others: Sequence[float | None], matmul: Sequence[float]) -> list[str]:
    """Why figures are not those of a machine that does nothing else."""
    objections = machine.busy(before, others)
    if statistics.median(matmul) < _SLOWED * max(matmul):
        share = statistics.median(matmul) / max(matmul)
        objections.append(f"matrix products ran at {share:.0%} of their best rate in the median")
    return objections


def _strongest(rates: Rates, ours: str) -> dict[str, Any] | None:
    """The fastest PyTorch variant of the same sampling and precision, and how many times as fast ours is."""

    def kind(name: str) -> tuple[bool, bool]:
        return name.startswith("field"), name.endswith(BF16)

    rivals = [name for name in _BASELINES if name in rates and kind(name) == kind(ours)]
    if not rivals:
        return None
    best = max(rivals, key=lambda name: statistics.median(rates[name]))
    return {"name": best, "ratio": ratio(rates, ours, best)}


def _prepare(workers: Mapping[str, Ask], network: Network) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Has the variants built, and checks that their logits are those of our network in full precision.

    Returns facts about each, and those of PyTorch that could not be built.
    """
    probe = np.random.default_rng(0).random((64, *workload.IMAGE), np.float32)
    with jax.default_matmul_precision("highest"):
        expected = training.predict(network, probe)
    facts: dict[str, dict[str, Any]] = {}
    failed = []
    for name, ask in workers.items():
        try:
            facts[name] = ask(network.parameters, probe)
        except InputError:
            if name not in _BASELINES:
                raise
            failed.append(name)
            continue
        as_run = facts[name].pop("logits", expected)
        converted = float(np.abs(facts[name].pop("exact_logits", expected) - expected).max())
        if not converted <= _TOLERANCE:
            raise RuntimeError(f"the logits of {name} differ from ours by {converted:.2g}: it is not the same network")
        facts[name]["largest_logit_difference"] = float(np.abs(as_run - expected).max())
    return facts, failed


def _measured(name: str, rates: Rates, timings: Sequence[Timing], parameters: Any) -> dict[str, Any]:
    flop, last = workload.flop_per_sample(parameters, field=name.startswith("field")), timings[-1]
    return {
        "samples_per_second": timing.spread(rates[name]),
        "samples_per_run": sum(last.counts),
        "mflop_per_sample": flop / 1e6,
        "share_of_matmul_peak": (ratio(rates, name, MATMUL) or 0) * flop / (2 * workload.SIDE**2),
        "peak_memory_mb": last.memory / 1e6,
        "peak_device_memory_mb": None if last.device_memory is None else last.device_memory / 1e6,
        "counts_of_last_run": last.counts,
        "cores_of_others": [each.others for each in timings],
    }


def _draw(results: dict[str, Any], rates: Rates) -> launch.Drawn:
    captions = []
    for name, variant in results["variants"].items():
        tuned, authors = ratio(rates, name, "tuned_torch"), ratio(rates, name, "authors_style")
        field = ratio(rates, name, "field_torch") if name.startswith("field") else None
        times = [f"{tuned:.1f}× tuned"] if tuned and name not in ("tuned_torch", "authors_style") else []
        times += [f"{field:.2f}× field"] if field and name != "field_torch" else []
        times += [f"{authors:.1f}× authors'"] if authors and name != "authors_style" else []
        times = [f"{', '.join(times)} PyTorch"] if times else []
        captions.append(f"{variant['samples_per_second']['median']:,.0f}\n{''.join(times)}".strip())
    where = results["environment"]
    devices = [f"{where['cores']} cores of {where['cpu']}"]
    devices += [] if where["device"].endswith("(cpu)") else [where["device"]]
    versions = [f"jax {where['jax']}", *{f"torch {v['torch']}" for v in results["variants"].values() if "torch" in v}]
    shown = {_LABELS[name]: rates[name] for name in results["variants"]}
    title = "White noise through the paper's network to sums by class: samples per second"
    note = "" if results["comparable"] else "NOT COMPARABLE: the machine was busy\n"
    note += f"bars: medians of {results['rounds']} alternated rounds, which are the points\n"
    note += ", ".join(devices + versions)
    yield "benchmark.png", figures.speeds(shown, captions, list(_OURS.values()), title, note)


def _table(results: dict[str, Any], rates: Rates) -> Iterator[str]:
    others = {"x tuned": "tuned_torch", "x authors": "authors_style", "x field": "field_torch"}
    heads = "".join(f"{head:>12s}" for head in ("samples/s", *others, "x strongest", "of peak", "memory", "compiled"))
    yield f"{'':39s}{heads}"
    for name, variant in results["variants"].items():
        times = [ratio(rates, name, other) for other in others.values()]
        strongest = results["strongest_pytorch"].get(name)
        times.append(strongest and strongest["ratio"])
        columns = "".join(f"{'-' if value is None else f'{value:.2f}':>12s}" for value in times)
        compiled = "" if variant["compile_seconds"] is None else f"{variant['compile_seconds']:10.1f} s"
        speed, share = variant["samples_per_second"]["median"], variant["share_of_matmul_peak"]
        yield f"{_LABELS[name]:39s}{speed:12,.0f}{columns}{share:12.1%}{variant['peak_memory_mb']:9,.0f} MB{compiled}"
    yield "x strongest: the fastest PyTorch variant of the same sampling and precision; x field: its window field"
    yield f"matmul peak     {results['matmul_gflop_per_second']['median']:,.0f} GFLOP/s in float32"
    yield f"machine         {results['environment']['cores']} cores of {results['environment']['cpu']}"
    devices = {name: variant["device"] for name, variant in results["variants"].items()}
    if len({device.endswith("cpu") for device in devices.values()}) > 1:
        yield f"NOT COMPARABLE  the variants ran on different devices: {devices}"


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    launch.main(run, Settings)
