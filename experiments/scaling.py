"""`experiments.benchmark --scaling`: the job on 1, 2, 4, 8, ... devices of this machine, made up ones on a CPU."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from experiments import launch, machine, timing, workload
from wna_jax import figures
from wna_jax.networks import Network
from wna_jax.runs.progress import Progress

_MOST = 8  # devices that are made up on a CPU


def device_counts() -> list[int]:
    """1, 2, 4, 8, ... as far as there are devices, and all of them."""
    most = _MOST if jax.default_backend() == "cpu" else jax.local_device_count()
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})


def run(settings: Any, network: Network, report: launch.Report) -> launch.Result:
    """Times both samplings on each number of devices, in alternation."""
    counts, before = device_counts(), machine.others()
    probe = np.random.default_rng(0).random((8, *workload.IMAGE), np.float32)
    names = {(sampling, count): f"{sampling} on {count}" for sampling in workload.OURS for count in counts}
    with contextlib.ExitStack() as stack:
        workers, sizes = {}, {}
        for i, ((sampling, count), name) in enumerate(names.items(), start=1):
            load = functools.partial(workload.load_on, count)
            workers[name] = stack.enter_context(timing.worker(load, sampling))
            workers[name](network.parameters, probe)
            sizes[name], _ = timing.calibrate(workers[name], settings.seconds)
            report(Progress("calibration", i, len(names), "variants"))
        timings = timing.alternate(workers, sizes, settings.rounds, report)

    rates = {name: [each.rate for each in row] for name, row in timings.items()}
    speed_up = {
        sampling: {count: timing.ratio(rates, names[sampling, count], names[sampling, 1]) or 1.0 for count in counts}
        for sampling in workload.OURS
    }
    objections = machine.busy(before, [each.others for row in timings.values() for each in row])
    results: dict[str, Any] = {
        "comparable": not objections,
        "objections": objections,
        "devices": counts,
        "made_up": jax.default_backend() == "cpu",
        "samples_per_second": {
            sampling: {count: timing.spread(rates[names[sampling, count]]) for count in counts}
            for sampling in workload.OURS
        },
        "speed_up": speed_up,
        "efficiency": {
            sampling: {count: gain / count for count, gain in row.items()} for sampling, row in speed_up.items()
        },
        "rounds": settings.rounds,
        "environment": launch.environment() | {"cpu": machine.cpu(), "cores": os.cpu_count() or 1},
    }
    notes = [f"NOT COMPARABLE  {'; '.join(objections)}"] if objections else []
    return launch.Result(
        results, [*notes, *_table(results)], functools.partial(_draw, results), metrics_file="scaling.json"
    )


def _where(results: dict[str, Any]) -> str:
    where = results["environment"]
    cores = f"{where['cores']} cores of {where['cpu']}"
    return f"devices made up of {cores}, all of which one device has, too" if results["made_up"] else where["device"]


def _table(results: dict[str, Any]) -> Iterator[str]:
    yield f"{'devices':>8s}" + "".join(
        f"{f'{name}/s':>16s}{'speed-up':>10s}{'efficiency':>12s}" for name in workload.OURS
    )
    for count in results["devices"]:
        columns = ""
        for name in workload.OURS:
            rate = results["samples_per_second"][name][count]["median"]
            columns += (
                f"{rate:16,.0f}{results['speed_up'][name][count]:10.2f}{results['efficiency'][name][count]:12.1%}"
            )
        yield f"{count:8d}{columns}"
    yield f"on {_where(results)}"


def _draw(results: dict[str, Any]) -> launch.Drawn:
    counts = results["devices"]
    lines = {name: np.array([*results["speed_up"][name].values()]) for name in workload.OURS}
    lines |= {} if results["made_up"] else {"at best": np.array(counts)}
    panel = {name: figures.Curve(counts, values) for name, values in lines.items()}
    title = f"White noise through the paper's network, on {_where(results)}: medians of {results['rounds']} rounds"
    drawn = figures.curves({"": panel}, "devices", "times as fast as one device", title, y_limits=(0, None))
    yield "scaling.png", drawn
