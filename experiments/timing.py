"""Jobs timed side by side: each in a process of its own, all in alternation, round by round."""

import contextlib
import multiprocessing
import re
import resource
import signal
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.machine import Meter
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report

_FEWEST, _UNIT = 1_024, 4_096  # samples of the shortest run; longer runs are multiples of the unit

Ask = Callable[..., Any]
"""Sends its arguments to a worker and returns the answer."""
Job = Callable[[int, int], tuple[np.ndarray, Any]]
"""(samples n, seed) -> counts of samples, and anything else, on the host."""
Rates = Mapping[str, Sequence[float]]
"""Samples per second of each job, round by round."""


class Variant(NamedTuple):
    """A job that a worker can time, with its libraries imported.

    `build` makes the job, and facts about it, of the arguments of the first message; `device_memory` is the peak of
    bytes so far on a device with memory of its own.
    """

    build: Callable[..., tuple[Job, dict[str, Any]]]
    device_memory: Callable[[], int | None]


class Timing(NamedTuple):
    """A worker's answer to one run; `memory` is the peak of resident bytes so far, beyond those of the libraries.

    `others` are the CPU cores that other processes took meanwhile; None if unknown.
    """

    seconds: float
    counts: list[int]
    memory: int
    device_memory: int | None
    others: float | None = None

    @property
    def rate(self) -> float:
        """Samples per second."""
        return sum(self.counts) / self.seconds


@contextlib.contextmanager
def worker(load: Callable[[str], Variant], name: str) -> Iterator[Ask]:
    """A process for one variant, which a function of a module loads in it, until the end of the context.

    The first call has it built, and returns its facts; each further call, of n and a seed, returns a `Timing`.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, load, name), daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited by the worker: Ctrl-C is for the parent alone
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


def _serve(pipe: Connection, load: Callable[[str], Variant], name: str) -> None:
    variant = load(name)
    libraries = _peak_memory()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        job, facts = variant.build(*pipe.recv())
        pipe.send(facts)
        while True:
            n, seed = pipe.recv()
            started = Meter.read()
            counts, _ = job(n, seed)  # they are on the host, so the device has finished
            ended = Meter.read()
            memory, others = _peak_memory() - libraries, started.others(ended)
            pipe.send(Timing(ended.at - started.at, counts.tolist(), memory, variant.device_memory(), others))


def _peak_memory() -> int:
    """The peak of this process's resident bytes."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    # on Linux ru_maxrss would start at the parent's peak
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def calibrate(ask: Ask, seconds: float) -> tuple[int, float]:
    """How many samples take about so many seconds, and how much longer the first run took than the next."""
    n = _FEWEST
    first, best = ask(n, 0).seconds, ask(n, 0).seconds  # every size is run twice: the first run may have to compile
    compile_seconds = max(0.0, first - best)
    while best < seconds / 4:
        n *= 4
        best = min(ask(n, 0).seconds, ask(n, 0).seconds)
    n = max(_FEWEST, round(n * seconds / best))
    n -= n % _UNIT if n > _UNIT else 0
    ask(n, 0)
    return n, compile_seconds


def alternate(
    workers: Mapping[str, Ask], sizes: Mapping[str, int], rounds: int, report: Report
) -> dict[str, list[Timing]]:
    """Times all workers one after the other, round by round, every second round in reverse."""
    timings: dict[str, list[Timing]] = {name: [] for name in workers}
    for seed in range(rounds):
        for name in list(workers)[:: -1 if seed % 2 else 1]:
            timings[name].append(workers[name](sizes[name], seed))
            done, seconds = sum(map(len, timings.values())), {name: timings[name][-1].seconds}
            report(Progress("rounds", done, rounds * len(workers), "runs", seconds))
    return timings


def ratio(rates: Rates, name: str, other: str) -> float | None:
    """How many times as fast a job is as another: the median over the rounds; None if one was not run."""
    known = name in rates and other in rates
    return statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True)) if known else None


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, minimum, maximum, and the values by round, as JSON values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}
