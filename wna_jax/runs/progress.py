"""How long work tells how far it is: library functions call a `Report`, `show` turns it into bars and JSON lines."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from wna_jax.runs.errors import of_path


class Progress(NamedTuple):
    """One word of progress."""

    job: str
    """What is being done, such as "training"."""
    done: int
    total: int
    unit: str
    """What `done` counts, such as "images"; the rate is shown in it."""
    figures: Mapping[str, float] = {}
    """Figures of the moment, such as the loss."""


Report = Callable[[Progress], None]
Part = TypeVar("Part")


def silent(progress: Progress) -> None:
    """A `Report` that says nothing: the default everywhere."""


def renamed(report: Report, job: str) -> Report:
    """A `Report` under another job's name, for a second job of a kind."""
    return lambda progress: report(progress._replace(job=job))


def in_parts(report: Report, parts: Sequence[Part], *jobs: str) -> Iterator[tuple[Part, Report]]:
    """The parts of a long job, each with a `Report` of its own, by which one bar tells how far all parts are.

    Each part counts as much as any other. Of what a part reports, the `jobs` are told as a share of all parts, so each
    part must report a job once; other jobs are passed on as they are. Parts may have parts.
    """
    for i, part in enumerate(parts):

        def tell(progress: Progress, i: int = i) -> None:
            if progress.job in jobs:
                done, total = i * progress.total + progress.done, len(parts) * progress.total
                progress = progress._replace(done=done, total=total)
            report(progress)

        yield part, tell


class Stopwatch:
    """A `Report` that passes on what it is told, and knows how much was done while it listened, and how fast.

    Where several jobs report to it, it listens to one of them.
    """

    def __init__(self, report: Report, job: str | None = None) -> None:
        """Starts with the first word of progress."""
        self._report, self._job = report, job
        self._marks: list[tuple[float, int]] = []

    def __call__(self, progress: Progress) -> None:
        """Takes the time and passes it on."""
        if self._job in (None, progress.job):
            self._marks = [*self._marks[:1], (time.perf_counter(), progress.done)]
        self._report(progress)

    @property
    def seconds(self) -> float:
        """From the first word to the last."""
        return round(self._marks[-1][0] - self._marks[0][0], 2) if self._marks else 0.0

    @property
    def rate(self) -> float | None:
        """Units a second; None if nothing was done."""
        return round(self.done / (self._marks[-1][0] - self._marks[0][0]), 1) if self.done else None

    @property
    def done(self) -> int:
        """What was done while it listened."""
        return self._marks[-1][1] - self._marks[0][1] if self._marks else 0


@contextlib.contextmanager
def show(log_path: Path | None = None) -> Iterator[Report]:
    """Gives a `Report` that draws one progress bar a job on stderr and appends one JSON line a call to `log_path`.

    Each line holds job, done, total, unit, seconds (since the job's first report) and the figures. There is no file
    before the first line; half a line, which a full disk or a kill may have left at its end, is removed.
    """
    bars: dict[str, tqdm] = {}
    if log_path and log_path.exists():
        with log_path.open("rb+") as binary:
            binary.truncate(binary.read().rfind(b"\n") + 1)

    def report(progress: Progress) -> None:
        if progress.job not in bars:
            bars[progress.job] = tqdm(
                total=progress.total,
                initial=progress.done,
                desc=progress.job,
                unit=f" {progress.unit}",
                unit_scale=True,
                dynamic_ncols=True,
                mininterval=0.1 if _is_watched() else 10,  # a batch job's log is read, not watched
            )
        bar = bars[progress.job]
        bar.total = progress.total
        bar.update(progress.done - bar.n)
        if progress.figures:
            bar.set_postfix({name: f"{value:.4g}" for name, value in progress.figures.items()})
        if log_path:
            place = progress._asdict() | {"seconds": round(time.time() - bar.start_t, 3)}
            with of_path(log_path), log_path.open("a") as log:
                log.write(json.dumps(place | dict(place.pop("figures"))) + "\n")
        if progress.done >= progress.total:
            bars.pop(progress.job).close()  # the next job of that name gets a bar of its own

    try:
        yield report
    finally:
        for bar in bars.values():
            bar.close()


@contextlib.contextmanager
def by_default(report: Report | None) -> Iterator[Report]:
    """The `Report` that was given; without one, bars where somebody watches them, else a silent one."""
    if report is None and _is_watched():
        with show() as bars:
            yield bars
    else:
        yield report or silent


def _is_watched() -> bool:
    """Whether standard error is a terminal, or the output of a notebook."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")
