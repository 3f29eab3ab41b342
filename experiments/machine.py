"""What a benchmark runs on: the CPU and its instruction sets, and how much of it other work takes."""

import os
import platform
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_CPUINFO, _STAT = Path("/proc/cpuinfo"), Path("/proc/stat")
_SETS = {"AMX": "amx_tile", "AVX-512": "avx512f", "AVX2": "avx2", "SVE": "sve", "NEON": "asimd"}  # the best ones first
_BUSY = 0.1  # of all cores taken by other work: more is too much to compare
_SHORTEST = 0.2  # seconds; the system counts CPU time in hundredths of one


def cpu() -> str:
    """The CPU's model with the instruction sets that matter here, such as "AMD EPYC (AVX-512, AVX2)"."""
    text = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    named = re.search(r"model name\s*:\s*(.+)", text)
    listed = re.search(r"(?:flags|Features)\s*:\s*(.+)", text)
    has = set(listed[1].split()) if listed else {"asimd"} if platform.machine() == "arm64" else set()
    sets = [name for name, flag in _SETS.items() if flag in has]
    model = named[1].strip() if named else platform.processor() or platform.machine()
    return f"{model} ({', '.join(sets) or 'instruction sets unknown'})"


class Meter(NamedTuple):
    """A moment, and the CPU seconds spent until then: of the whole machine, and of this process."""

    at: float
    machine: float | None
    own: float

    @classmethod
    def read(cls) -> "Meter":
        """Now."""
        return cls(time.perf_counter(), _busy_seconds(), time.process_time())

    def others(self, until: "Meter") -> float | None:
        """How many cores the machine's other work took on average; None if that is unknown, or the time was too short.

        The load average would count the user's own last minute, and processes that wait for the disk.
        """
        seconds = until.at - self.at
        if self.machine is None or until.machine is None or seconds < _SHORTEST:
            return None
        return max(0.0, until.machine - self.machine - (until.own - self.own)) / seconds


def _busy_seconds() -> float | None:
    """CPU seconds of all cores that were not idle, those among them that went to other virtual machines."""
    if not _STAT.exists():
        return None
    ticks = [int(number) for number in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # without idle, and waiting for disks


def others(seconds: float = 1.0) -> float | None:
    """How many cores other work takes, measured now for so many seconds."""
    before = Meter.read()
    time.sleep(seconds)
    return before.others(Meter.read())


def busy(before: float | None, others: Sequence[float | None]) -> list[str]:
    """Why timings are not those of a machine that does nothing else: cores of others before them, and in each."""
    cores, known = os.cpu_count() or 1, [each for each in others if each is not None]
    when = {"before the start": before or 0.0, "in the median": statistics.median(known or [0.0])}
    return [
        f"other work took {took:.1f} of {cores} cores {then}" for then, took in when.items() if took > _BUSY * cores
    ]
