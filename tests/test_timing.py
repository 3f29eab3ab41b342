import os

import numpy as np
import pytest

from experiments import timing
from experiments.timing import Timing, Variant
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import silent


def load(name: str) -> Variant:
    """In a worker: a job that answers with its arguments and its process."""
    if name == "broken":
        raise SystemExit(1)

    def build(count: int) -> tuple[timing.Job, dict[str, int]]:
        return lambda n, seed: (np.array([n, seed]), None), {"count": count, "process": os.getpid()}

    return Variant(build, lambda: 7)


def test_a_worker_builds_and_times_in_a_process_of_its_own() -> None:
    with timing.worker(load, "sound") as ask:
        facts = ask(3)
        answer = ask(1000, 24)
    assert facts["count"] == 3
    assert facts["process"] != os.getpid()
    assert answer.counts == [1000, 24]
    assert answer.seconds > 0
    assert answer.memory >= 0
    assert answer.device_memory == 7
    assert answer.rate == 1024 / answer.seconds


def test_a_worker_that_ends_is_named() -> None:
    with timing.worker(load, "broken") as ask, pytest.raises(InputError, match="broken could not be run"):
        ask(1)


def test_runs_are_calibrated_to_a_time_in_whole_units() -> None:
    sizes = []

    def ask(n: int, seed: int) -> Timing:
        sizes.append(n)
        return Timing(n / 10_000 + (0.5 if len(sizes) == 1 else 0), [n], 0, None)  # 10,000 per second, once compiled

    n, compile_seconds = timing.calibrate(ask, 3.0)
    assert n == 28_672 == sizes[-1]  # 30,000, in units of 4,096
    assert compile_seconds == pytest.approx(0.5)


def test_rounds_alternate_their_order() -> None:
    asked: list[tuple[str, int, int]] = []

    def worker(name: str) -> timing.Ask:
        def ask(n: int, seed: int) -> Timing:
            asked.append((name, n, seed))
            return Timing(1.0, [n], 0, None)

        return ask

    timings = timing.alternate({name: worker(name) for name in "ab"}, {"a": 1, "b": 2}, 2, silent)
    assert asked == [("a", 1, 0), ("b", 2, 0), ("b", 2, 1), ("a", 1, 1)]
    assert [each.rate for each in timings["b"]] == [2, 2]


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    rates = {"field": [3.0, 2.0, 8.0], "tuned_torch": [1.0, 2.0, 4.0]}
    assert timing.ratio(rates, "field", "tuned_torch") == 2
    assert timing.ratio(rates, "field", "authors_style") is None
