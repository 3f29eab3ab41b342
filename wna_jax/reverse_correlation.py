"""The one streaming loop: noise -> response -> additive moments. The samples are never held.

Sample i of a seed is one fixed image, made from the key folded with i. So a result does not depend on the batch size or
on how the work is cut, but for the rounding of float32 sums within a batch, and any single sample can be drawn again.
"""

import functools
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.errors import InputError
from wna_jax.noise import Noise
from wna_jax.progress import Progress, Report, silent

Response = Callable[[jax.Array], Any]
"""Images [n, H, W, C] -> weights [n, K], or a pytree of such weights."""

_SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Moments:
    """Sums over noise samples x with weights w, of each of K responses and of all samples. Moments add up.

    Counts are exact integers; sums are float64 (of float32 sums a batch).
    """

    num_samples: int
    """N, all samples."""
    total_sum: np.ndarray
    """sum x, [H, W, C]."""
    total_square_sum: np.ndarray
    """sum x^2, [H, W, C]."""
    count: np.ndarray
    """Samples whose weight is not 0, int64 [K]: for decisions the number N_k of samples of class k."""
    weight_sum: np.ndarray
    """sum w, [K]."""
    weight_square_sum: np.ndarray
    """sum w^2, [K]."""
    sum: np.ndarray
    """sum w x, [K, H, W, C]."""
    square_sum: np.ndarray
    """sum w x^2, [K, H, W, C]."""

    def __add__(self, other: Self) -> Self:
        """The moments of both sets of samples together."""
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def reverse_correlate(
    noise: Noise,
    response: Response,
    num_samples: int = 1_000_000,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    report: Report = silent,
) -> Any:
    """Draws noise samples, lets the network respond, and sums them up by response.

    Args:
        noise: the distribution of the samples.
        response: images [n, H, W, C] -> weights [n, K] or a pytree of such weights; any function that `jax.jit` takes.
        num_samples: N, how many noise samples.
        seed: of the noise; sample i of a seed is always the same image.
        batch_size: samples a network pass; memory grows with it, the result does not change. By default 256 on a CPU
            and 16,384 on an accelerator.
        report: progress, in samples.

    Returns:
        `Moments`, in the structure of the response's weights.

    Raises:
        InputError: a number that is not above 0, weights of another shape, or NaN or infinite weights.
    """
    if batch_size is None:
        batch_size = 256 if jax.default_backend() == "cpu" else 16_384
    for what, number in (("num_samples", num_samples), ("batch_size", batch_size)):
        if number < 1:
            raise InputError(f"{what} is {number}: it must be a whole number of at least 1")
    batch_size = min(batch_size, num_samples)
    structure, widths = _check_response(noise, response, batch_size)
    sum_batch = _make_batch(noise, response, batch_size)
    key = jax.random.key(seed)

    zero = np.zeros(sum(widths) + 1, np.int64), *(np.zeros(()) for _ in range(4))
    sums: tuple[np.ndarray, ...] = zero
    pending: deque[tuple[int, Any]] = deque()
    reported = 0.0
    for start in range(0, num_samples + batch_size, batch_size):  # one turn more, to take in the last batch
        if start < num_samples:
            size = min(batch_size, num_samples - start)
            pending.append((start, sum_batch(key, *_two_words(start), np.int32(size))))
        if len(pending) > 1 or start >= num_samples:  # the device works on the next batch while the host adds this one
            begin, batch = pending.popleft()
            end = min(begin + batch_size, num_samples)
            sums = tuple(a + np.asarray(b, a.dtype) for a, b in zip(sums, batch, strict=True))
            if not np.isfinite(sums[1]).all():
                raise InputError(
                    f"the response gave NaN or infinite weights for noise samples {begin} to {end - 1} of seed {seed}: "
                    "check the network's outputs on noise"
                )
            if end == num_samples or time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                report(Progress("noise", end, num_samples, "samples"))
    return structure.unflatten(_split(sums, widths, num_samples))


def draw_samples(noise: Noise, count: int, *, seed: int = 0, first: int = 0) -> jax.Array:
    """Samples `first` to `first + count - 1` of a seed, as `reverse_correlate` shows them: [count, H, W, C]."""
    return _draw(noise, jax.random.key(seed), *_two_words(first), count)


def _draw(noise: Noise, key: jax.Array, high: jax.Array, low: jax.Array, count: int) -> jax.Array:
    """Samples from index 2^32 high + low on."""
    lows = low + jnp.arange(count, dtype=jnp.uint32)
    highs = high + (lows < low).astype(jnp.uint32)

    def draw(high: jax.Array, low: jax.Array) -> jax.Array:
        return noise.sample(jax.random.fold_in(jax.random.fold_in(key, high), low))

    return jax.vmap(draw)(highs, lows)


def _check_response(noise: Noise, response: Response, batch_size: int) -> tuple[Any, list[int]]:
    images = jax.ShapeDtypeStruct((batch_size, *noise.shape), jnp.float32)
    leaves, structure = jax.tree.flatten(jax.eval_shape(response, images))
    for leaf in leaves:
        if len(leaf.shape) != 2 or leaf.shape[0] != batch_size or leaf.shape[1] < 1:
            raise InputError(
                f"the response returned weights of shape {leaf.shape} for images {images.shape}: "
                f"expected ({batch_size}, number of responses)"
            )
    if not leaves:
        raise InputError("the response returned no weights: expected an array [n, K] or a pytree of such arrays")
    return structure, [leaf.shape[1] for leaf in leaves]


@functools.lru_cache(maxsize=4)  # so that another seed does not compile again
def _make_batch(noise: Noise, response: Response, batch_size: int) -> Callable[..., tuple[jax.Array, ...]]:
    """The jitted sums of one batch; the last row of each is that of all samples (weight 1)."""

    @jax.jit
    def sum_batch(key: jax.Array, high: jax.Array, low: jax.Array, size: jax.Array) -> tuple[jax.Array, ...]:
        images = _draw(noise, key, high, low, batch_size)
        leaves = [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(response(images))]
        weights_nk = jnp.concatenate([*leaves, jnp.ones((batch_size, 1), jnp.float32)], axis=1)
        weights_nk = jnp.where((jnp.arange(batch_size) < size)[:, None], weights_nk, 0)
        return (
            jnp.sum(weights_nk != 0, axis=0, dtype=jnp.int32),
            weights_nk.sum(axis=0),
            jnp.square(weights_nk).sum(axis=0),
            jnp.einsum("nk,nhwc->khwc", weights_nk, images, precision="highest"),
            jnp.einsum("nk,nhwc->khwc", weights_nk, jnp.square(images), precision="highest"),
        )

    return sum_batch


def _two_words(index: int) -> tuple[jax.Array, jax.Array]:
    """A sample's index as two 32-bit words, so that 10^10 samples are as distinct as 10."""
    return jnp.uint32(index >> 32), jnp.uint32(index & 0xFFFFFFFF)


def _split(sums: tuple[np.ndarray, ...], widths: list[int], num_samples: int) -> list[Moments]:
    count, weight_sum, weight_square_sum, sum_, square_sum = sums
    return [
        Moments(
            num_samples=num_samples,
            total_sum=sum_[-1],
            total_square_sum=square_sum[-1],
            count=count[a:b],
            weight_sum=weight_sum[a:b],
            weight_square_sum=weight_square_sum[a:b],
            sum=sum_[a:b],
            square_sum=square_sum[a:b],
        )
        for a, b in itertools.pairwise(np.cumsum([0, *widths]))
    ]
