"""Large arrays, a batch at a time: sums in float64, or answers side by side."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from wna_jax.runs.progress import Progress, Report, silent


def in_batches(arrays: Any, size: int, report: Report = silent, job: str = "images") -> Iterator[Any]:
    """Cuts a pytree of arrays [N, ...] into batches of `size` along the first axis; the last may be smaller."""
    total = len(jax.tree.leaves(arrays)[0])
    for start in range(0, total, size):
        yield jax.tree.map(lambda array, start=start: array[start : start + size], arrays)
        report(Progress(job, min(start + size, total), total, "images"))


def sum_over(function: Callable[..., Any], arrays: tuple, size: int, report: Report = silent, job: str = "") -> Any:
    """The sum of `function(*batch)` over all batches, a pytree: whole numbers in int64, others in float64."""
    total: Any = None
    for batch in in_batches(arrays, size, report, job):
        part = jax.tree.map(widened, function(*batch))
        total = part if total is None else jax.tree.map(np.add, total, part)
    return total


def map_over(function: Callable[..., Any], arrays: tuple, size: int, report: Report = silent, job: str = "") -> Any:
    """`function(*batch)` of all batches, a pytree, one after the other along the first axis."""
    parts = [jax.tree.map(np.asarray, function(*batch)) for batch in in_batches(arrays, size, report, job)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def widened(array: Any) -> np.ndarray:
    """An array of a batch on the host, in the type in which batches are added up: int64 or float64."""
    return np.asarray(array, np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64)
