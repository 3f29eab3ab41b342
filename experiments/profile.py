"""Where does the time of an experiment go, from its start to its last figure?

  python -m experiments.profile noise_maps --dataset=mnist                      any experiment, with its own flags
  python -m experiments.profile --json=times.json noise_maps --dataset=mnist    writes the list to a file, too

Runs the experiment in this process under Python's profiler, and then lists the steps of its `run` with their seconds,
those of writing and drawing, and those that a long step consists of. Work that a step starts on the device counts
where its result is waited for. All that is called through Python takes some percent longer than without the profiler.
For a run from nothing give an empty --checkpoint_dir and --out_dir, and an empty folder as JAX_COMPILATION_CACHE_DIR.
"""

import cProfile
import importlib.util
import json
import pstats
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_SHOWN = 0.01  # of all seconds
_LONG = 0.2  # of all seconds: what such a step consists of is listed, too
Function = tuple[str, int, str]
"""File, line and name, as `pstats` has them."""


class Step(NamedTuple):
    """A function that one of the experiment's own called, and the seconds until it returned."""

    caller: str
    name: str
    seconds: float


def profiled(name: str, arguments: list[str]) -> tuple[float, list[Step]]:
    """Runs an experiment as its command does: all seconds, and the steps that took them, the longest first."""
    sys.argv = [name, *arguments]
    profiler, started = cProfile.Profile(), time.perf_counter()
    profiler.enable()
    try:
        runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    finally:
        profiler.disable()
    seconds = time.perf_counter() - started
    return seconds, sorted(_steps(pstats.Stats(profiler).stats, name, _LONG * seconds), key=lambda step: -step.seconds)  # type: ignore[attr-defined]


def _steps(stats: dict[Function, Any], experiment: str, long: float) -> Iterator[Step]:
    """What `run`, `Result.write` and `_draw` called, and their long steps; and, across these, imports and compiling."""
    for path, caller in ((f"{experiment}.py", "run"), (f"{experiment}.py", "_draw"), ("launch.py", "write")):
        for own in stats:
            if own[2] == caller and own[0].endswith(f"experiments/{path}"):
                yield from _called_by(stats, own, caller, long)
    for what, path, function in (
        ("imports", "<frozen importlib._bootstrap>", "_find_and_load"),
        ("tracing", "pjit.py", "trace_jaxpr"),
        ("compiling", "compiler.py", "compile_or_get_cached"),
    ):
        found = [row[3] for own, row in stats.items() if own[0].endswith(path) and own[2] == function]
        yield Step("all", what, max(found, default=0.0))


def _called_by(
    stats: dict[Function, Any], caller: Function, name: str, long: float, above: tuple[Function, ...] = ()
) -> Iterator[Step]:
    for own, (*_, callers) in stats.items():
        if caller in callers and own not in above:
            if own[2].startswith("<") and own[0] == caller[0]:  # a comprehension in the caller's own lines
                yield from _called_by(stats, own, name, long, (*above, own))
            else:
                place = Path(own[0]).stem if own[0] not in ("~", "") else "Python"
                yield Step(name, f"{place}.{own[2]}", callers[caller][3])
                if callers[caller][3] > long and "/wna_jax/" in own[0]:
                    yield from _called_by(stats, own, own[2], long, (*above, own))


if __name__ == "__main__":
    _, *rest = sys.argv
    out = rest.pop(0).partition("=")[2] if rest and rest[0].startswith("--json=") else None
    if {"--help", "-h"} & {*rest[:1]}:
        print(__doc__)
        sys.exit(0)
    if not rest or importlib.util.find_spec(f"experiments.{rest[0]}") is None:
        given = f"there is no experiment {rest[0]!r}" if rest else "no experiment is named"
        print(f"error: {given}: such as python -m experiments.profile noise_maps --dataset=mnist", file=sys.stderr)
        sys.exit(2)
    total, steps = profiled(rest[0], rest[1:])
    print(f"\n{total:8.2f} s  in all")
    for step in steps:
        if step.seconds >= _SHOWN * total:
            print(f"{step.seconds:8.2f} s  {step.caller:20s}{step.name}")
    if out:
        Path(out).write_text(json.dumps({"seconds": total, "steps": [step._asdict() for step in steps]}))
