"""How much memory there is, so that a job that needs more is refused before it is killed without a word."""

import contextlib
from pathlib import Path

from wna_jax.runs.errors import InputError

_MEMORY = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def available() -> float:
    """The bytes that this process can still take: those free on the machine, or in its container (cgroup) if fewer.

    It is infinite where neither is known.
    """
    free = [float("inf")]
    with contextlib.suppress(OSError, StopIteration):
        lines = _MEMORY.read_text().splitlines()
        free.append(1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            free.append(float((_CONTAINER / limit).read_text()) - float((_CONTAINER / used).read_text()))
    return max(0.0, min(free))


def check(needed: float, what: str, way_out: str) -> None:
    """Raises an InputError if more bytes are needed for something than are available."""
    if needed > (free := available()):
        raise InputError(f"{what} take {gigabytes(needed)}, of which {gigabytes(free)} are free: {way_out}")


def gigabytes(size: float) -> str:
    """A size in bytes as a text."""
    return f"{size / 1e9:,.{2 if size < 1e9 else 1}f} GB"
