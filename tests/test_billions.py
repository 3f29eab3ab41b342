"""Runs of 10^9 and 10^10 samples: numbers of draws, counts, memory."""

import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import noise, reverse_correlate
from wna_jax.correlation.program import Program

PIXEL = noise.uniform((1, 1, 1))

MEMORY = """
import re, sys
from pathlib import Path
import jax
import jax.numpy as jnp
from wna_jax import noise, reverse_correlate
def bright(images: jax.Array) -> jax.Array:
    mean = images.mean(axis=(1, 2, 3))
    return jnp.stack([mean > 0.5, mean <= 0.5], axis=1).astype(jnp.float32)
for n in (500_000, int(sys.argv[1])):
    reverse_correlate(noise.uniform((4, 4, 1)), bright, n, batch_size=8192)
    print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def bright(images: jax.Array) -> jax.Array:
    return (images.reshape(-1, 1) > 0.25).astype(jnp.float32)


def test_ten_thousand_million_samples_are_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of the first batch stand for those of all batches: what is added up is known."""
    batches, size = 2_500, 4_000_000
    compute, computed, started = Program.dispatch, list[Any](), list[int]()

    def dispatch(self: Program, seed: int, own: range, *rest: Any) -> Any:
        started.append(own.start * self.draws)
        if not computed:
            computed.append(jax.device_get(compute(self, seed, own, *rest)))
        return computed[0]

    monkeypatch.setattr(Program, "dispatch", dispatch)
    one = reverse_correlate(PIXEL, bright, size, batch_size=size)
    many = reverse_correlate(PIXEL, bright, batches * size, batch_size=size)
    assert many.num_samples == many.num_draws == 10**10
    assert started[-1] == 10**10 - size > 2**32
    assert many.count.dtype == np.int64
    assert many.count.tolist() == [batches * int(one.count[0])]
    assert many.count[0] > 2**32
    for name in ("sum", "total_sum", "weight_sum"):
        np.testing.assert_allclose(getattr(many, name), batches * getattr(one, name), rtol=1e-12)


@pytest.mark.slow
def test_fifty_million_samples_take_no_more_memory_than_half_a_million() -> None:
    run = [sys.executable, "-c", MEMORY, "50_000_000"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    if not re.fullmatch(r"\d+\n\d+\n", done.stdout):
        pytest.skip("the peak of memory is known on Linux alone")
    few, many = map(int, done.stdout.split())
    assert many < few + 20_000  # kB
