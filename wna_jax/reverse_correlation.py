"""The one streaming loop: noise -> response -> additive moments. The samples are never held.

Draw i of a seed is one fixed image (or field), made from the key folded with i. So a result does not depend on the
batch size, on the number of devices or on interruptions, but for the rounding of float32 sums within a batch; and any
single sample can be drawn again.
"""

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from wna_jax.errors import InputError, unknown_name
from wna_jax.jobs import State, Store
from wna_jax.moments import FieldSums, Moments
from wna_jax.noise import Noise
from wna_jax.progress import Progress, Report, silent
from wna_jax.responses import BlackBox, Gradient
from wna_jax.sampling import FIELD_GRID, Geometry, draw_and_present, find_field, independent, two_words, window_sums

Response = Callable[[jax.Array], Any]
"""Images [n, H, W, C] -> weights [n, K], or a pytree of such weights."""
Sampling = Literal["auto", "independent", "field"]
SAMPLINGS: tuple[Sampling, ...] = ("auto", "independent", "field")

_FORMAT = 2  # of the sums in a state
_SECONDS_BETWEEN_REPORTS = 0.5
_FEWEST_FIELDS = 20  # below that, "auto" stays with independent samples: too few draws to tell the error of anything


class Parts(NamedTuple):
    """The samples of one run in two independent halves, and the way to the first: each in the response's structure."""

    first: Any
    """`Moments` of the even batches."""
    second: Any
    """`Moments` of the odd batches; empty where all samples fit into one batch."""
    course: list[Any]
    """`Moments` of the first 1, 2, 4, 8, ... even batches, to see how maps converge."""


def reverse_correlate(
    noise: Noise, response: Response | BlackBox | Gradient, num_samples: int = 1_000_000, **options: Any
) -> Any:
    """Draws noise samples, lets the network respond, and sums them up by response.

    The sum of the two halves of `reverse_correlate_in_parts`, which says what all arguments are.

    Returns:
        `Moments`, in the structure of the response's weights.
    """
    parts = reverse_correlate_in_parts(noise, response, num_samples, **options)
    return jax.tree.map(lambda first, second: first + second, parts.first, parts.second)


def reverse_correlate_in_parts(
    noise: Noise,
    response: Response | BlackBox | Gradient,
    num_samples: int = 1_000_000,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    sampling: Sampling = "auto",
    state_dir: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    report: Report = silent,
) -> Parts:
    """`reverse_correlate` in two independent halves, the even and the odd batches, to tell how reliable maps are.

    The work is spread over all devices that JAX sees, of all processes of a `jax.distributed` program.

    Args:
        noise: the distribution of the samples.
        response: images [n, H, W, C] -> weights [n, K] or a pytree of such weights; any function that `jax.jit` takes,
            or a black box or gradient of `wna_jax.responses`. As for `jax.jit`, what a function closes over must not
            change between calls with the same function.
        num_samples: N, how many noise samples.
        seed: of the noise; draw i of a seed is always the same image or field.
        batch_size: samples a network pass; memory grows with it, the result does not change. By default 256 on a CPU
            and 16,384 on an accelerator, with fields 4,096 and 65,536 (rounded to whole draws for each device).
        sampling: "independent" images, the overlapping windows of a "field" (`wna_jax.sampling` says what that does to
            statistics), or "auto": fields where noise and network allow it and N is at least 20 fields, about 20,000.
        state_dir: a directory to keep the job's state in, every few seconds and when interrupted: the same call then
            goes on from there, and one with more samples extends the run.
        identity: what else than these arguments decides the result (JSON values, such as the network's checkpoint); a
            state of another identity is refused.
        report: progress, in samples.

    Returns:
        `Parts`: the two halves and the course, each `Moments` in the structure of the response's weights.

    Raises:
        InputError: a number that is not above 0, weights of another shape, NaN or infinite weights, fields asked for
            where there are none, or a state of another job.
    """
    _check_numbers(num_samples=num_samples, batch_size=batch_size, seed=seed)
    structure, widths = _check_response(noise, response)
    geometry = _choose_geometry(sampling, noise, response, num_samples)
    draws = _draws_a_batch(batch_size, geometry)
    batch = draws * geometry.windows
    make = _make_batch if isinstance(response, Hashable) else _make_batch.__wrapped__
    sum_batch = make(noise, response, geometry, draws)

    def dispatch(index: int) -> tuple[jax.Array, ...]:
        size = min(batch, num_samples - index * batch)
        return sum_batch(np.uint32(seed), *two_words(index * draws), np.int32(size))

    def add(sums: Sequence[np.ndarray], index: int, batch_sums: tuple[jax.Array, ...]) -> list[np.ndarray]:
        """Float32 sums of a batch into the float64 sums of its half; int32 counts into int64."""
        total = [array.copy() for array in sums]
        for a, b in zip(total, batch_sums, strict=True):
            a[index % 2] += np.asarray(b, a.dtype)
        if not all(np.isfinite(array).all() for array in total):
            raise InputError(
                f"the response gave NaN, infinite or far too large weights for noise samples {index * batch} to "
                f"{min((index + 1) * batch, num_samples) - 1} of seed {seed}: check the network's outputs on noise"
            )
        return total

    rows = (2, sum(widths) + 1)  # halves; responses, the last is that of all samples
    images = (*rows, *noise.shape)
    shapes = (rows,) * 3 + (images,) * 2 + (() if geometry.grid == 1 else (rows,) * 4 + (images,) * 4)
    zeros = [np.zeros(rows, np.int64), *map(np.zeros, shapes)]
    known = {"mean": noise.mean.tolist(), "deviation": noise.deviation.tolist()} if noise.mean.ndim == 1 else {}
    what = {"noise": noise.name, "seed": seed} | known  # the moments of single pixels would make an unreadable line
    sampled = "independent" if geometry.grid == 1 else f"field of {geometry.windows} windows"
    how = {"shape": list(noise.shape), "responses": widths, "sampling": sampled, "batch": batch, "format": _FORMAT}
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(state_dir, what | how | dict(identity or {}))) if state_dir else None
        state = (store and store.load()) or State(0, zeros, [])
        if state.batches * batch > num_samples:
            raise InputError(
                f"{state_dir} holds {state.batches * batch:,} samples, num_samples is {num_samples:,}: "
                "ask for at least as many, or give another output directory"
            )
        if store:
            stack.callback(lambda: store.save(state))  # however this ends: `state` is always a whole one
        told = time.monotonic()
        report(Progress("noise", state.batches * batch, num_samples, "samples"))
        for index, batch_sums in _one_ahead(dispatch, range(state.batches, num_samples // batch)):
            summed, course = add(state.sums, index, batch_sums), state.course
            if index % 2 == 0 and (index // 2 + 1).bit_count() == 1:
                course = [*course, [array[0] for array in summed]]
            state = State(index + 1, summed, course)
            if store:
                store.save_now_and_then(state)
            if time.monotonic() - told > _SECONDS_BETWEEN_REPORTS:
                told = time.monotonic()
                report(Progress("noise", state.batches * batch, num_samples, "samples"))
        # The last, incomplete batch is never part of the state: a run that is extended later has the sums of a run that
        # was asked for as many samples at once.
        sums = list(state.sums)
        if num_samples % batch:
            sums = add(sums, state.batches, dispatch(state.batches))
    report(Progress("noise", num_samples, num_samples, "samples"))

    def moments_of(sums: Sequence[np.ndarray]) -> Any:
        return structure.unflatten(_split(sums, widths, geometry.windows))

    first, second = ([array[half] for array in sums] for half in (0, 1))
    return Parts(moments_of(first), moments_of(second), [moments_of(point) for point in state.course])


def draw_samples(noise: Noise, count: int, *, seed: int = 0, first: int = 0) -> jax.Array:
    """Independent samples from number `first` on, as `reverse_correlate` shows them: [count, H, W, C]."""
    _check_numbers(count, None, seed)
    return draw_and_present(noise, jax.random.key(seed), *two_words(first), count)[1]


def _check_numbers(num_samples: int, batch_size: int | None, seed: int) -> None:
    for what, number in (("num_samples", num_samples), ("batch_size", 1 if batch_size is None else batch_size)):
        if number < 1:
            raise InputError(f"{what} is {number}: it must be a whole number of at least 1")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed}: it must be a whole number from 0 to 2^32 - 1")


def _check_response(noise: Noise, response: Response | BlackBox | Gradient) -> tuple[Any, list[int]]:
    """The structure of the response's weights, and the number of responses in each leaf."""
    images = jax.eval_shape(lambda: draw_samples(noise, 2))
    if isinstance(response, Gradient) and noise.present is not None:
        raise InputError(f"a gradient in {noise.name} noise: what is drawn is not what the network is shown")
    if isinstance(response, BlackBox):
        answers = _ask(response, np.asarray(draw_samples(noise, 2)))
        shapes = jax.eval_shape(response.weigh, jax.ShapeDtypeStruct(answers.shape, jnp.float32))
    else:
        shapes = jax.eval_shape(response.weights if isinstance(response, Gradient) else response, images)
    leaves, structure = jax.tree.flatten(shapes)
    for leaf in leaves:
        if len(leaf.shape) != 2 or leaf.shape[0] != 2 or leaf.shape[1] < 1:
            raise InputError(
                f"the response returned weights of shape {leaf.shape} for 2 images {images.shape[1:]}: "
                "expected (2, number of responses)"
            )
    if not leaves:
        raise InputError("the response returned no weights: expected an array [n, K] or a pytree of such arrays")
    return structure, [leaf.shape[1] for leaf in leaves]


def _ask(box: BlackBox, images: np.ndarray) -> np.ndarray:
    answers = box.function(images)
    try:
        answers = np.asarray(answers, np.float32)
    except (TypeError, ValueError):
        raise InputError(
            f"the black box returned a {type(answers).__name__}: expected a NumPy array of numbers"
        ) from None
    if answers.ndim != 2 or len(answers) != len(images):
        raise InputError(
            f"the black box returned an array of shape {answers.shape} for images {images.shape}: "
            f"expected ({len(images)}, classes)"
        )
    return answers


def _choose_geometry(
    wanted: Sampling, noise: Noise, response: Response | BlackBox | Gradient, num_samples: int
) -> Geometry:
    if wanted not in SAMPLINGS:
        raise unknown_name("sampling", wanted, SAMPLINGS)
    if wanted == "independent" or (wanted == "auto" and num_samples < _FEWEST_FIELDS * FIELD_GRID**2):
        return independent(noise)
    if isinstance(response, BlackBox | Gradient):
        found: Geometry | str = "black boxes and gradients answer single images alone"
    else:
        found = find_field(noise, response)
    if isinstance(found, Geometry):
        return found
    if wanted == "field":
        raise InputError(f"sampling is 'field', but {found}: use --sampling=independent")
    return independent(noise)


def _draws_a_batch(batch_size: int | None, geometry: Geometry) -> int:
    """Whole draws, the same number for each device."""
    if batch_size is None:
        small = jax.default_backend() == "cpu"
        batch_size = (256 if small else 16_384) if geometry.grid == 1 else (4_096 if small else 65_536)
    draws = math.ceil(batch_size / geometry.windows)
    return math.ceil(draws / jax.device_count()) * jax.device_count()


@functools.lru_cache(maxsize=4)  # so that another seed does not compile again
def _make_batch(
    noise: Noise, response: Response | BlackBox | Gradient, geometry: Geometry, draws: int
) -> Callable[..., tuple]:
    """The jitted sums of one batch of draws, spread over all devices; the last row is of all samples (weight 1)."""
    mesh = jax.make_mesh((jax.device_count(),), ("draws",), axis_types=(AxisType.Auto,))
    spread, everywhere = NamedSharding(mesh, PartitionSpec("draws")), NamedSharding(mesh, PartitionSpec())
    stimulus = noise if geometry.grid == 1 else noise.resized(geometry.field)
    grid = (draws, geometry.grid, geometry.grid)

    def fields_of(seed: jax.Array, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What is averaged, and what is shown."""
        drawn = draw_and_present(stimulus, jax.random.key(seed), high, low, draws)
        return jax.lax.with_sharding_constraint(drawn, spread)

    def sums_of(answers: Any, fields: jax.Array, size: jax.Array) -> tuple[jax.Array, ...]:
        """Sums of one batch from weights, a pytree of [draws, K] or [draws, grid, grid, K]."""
        leaves = [leaf.astype(jnp.float32).reshape(*grid, -1) for leaf in jax.tree.leaves(answers)]
        inside = jnp.arange(math.prod(grid)).reshape(*grid, 1) < size
        weights = jnp.where(inside, jnp.concatenate([*leaves, jnp.ones((*grid, 1))], axis=-1), 0)
        weight_nk, square_nk = weights.sum(axis=(1, 2)), jnp.square(weights).sum(axis=(1, 2))
        of_weights = (
            jnp.sum(weights != 0, axis=(0, 1, 2), dtype=jnp.int32),
            weight_nk.sum(axis=0),
            square_nk.sum(axis=0),
            jnp.square(weight_nk).sum(axis=0),
        )
        if geometry.grid == 1:
            sums = window_sums(weights, jnp.concatenate([fields, jnp.square(fields)], axis=-1), geometry)
            return *of_weights, *jnp.split(sums, 2, axis=-1)
        # Products of sums are of centred pixels, or rounding would leave nothing of the small difference they are for.
        mean = jnp.asarray(noise.mean, jnp.float32).reshape(1, 1, 1, -1)
        pixels_and_squares = jnp.stack([fields - mean, jnp.square(fields)], axis=-1)
        images = window_sums(weights, pixels_and_squares.reshape(*fields.shape[:3], -1), geometry, each_field=True)
        images = jnp.moveaxis(images.reshape(*images.shape[:-1], -1, 2), -1, 0)
        a_nkhwc, squares_nkhwc = jax.lax.optimization_barrier(images)  # or each product gathers them again
        t_nhwc = a_nkhwc[:, -1]
        product = functools.partial(
            jnp.einsum, precision="highest"
        )  # on a CPU 1.5 times as fast as (a * b).sum(axis=0)
        return (
            *of_weights,
            a_nkhwc.sum(axis=0) + mean * of_weights[1][:, None, None, None],
            squares_nkhwc.sum(axis=0),
            jnp.square(square_nk).sum(axis=0),
            (square_nk * weight_nk).sum(axis=0),
            (square_nk * weight_nk[:, -1:]).sum(axis=0),
            (weight_nk * weight_nk[:, -1:]).sum(axis=0),
            product("nkhwc,nkhwc->khwc", a_nkhwc, a_nkhwc),
            product("nkhwc,nk->khwc", a_nkhwc, weight_nk),
            product("nkhwc,nhwc->khwc", a_nkhwc, t_nhwc),
            product("nk,nhwc->khwc", weight_nk, t_nhwc),
        )

    @functools.partial(jax.jit, out_shardings=everywhere)
    def of_network(seed: jax.Array, high: jax.Array, low: jax.Array, size: jax.Array) -> tuple[jax.Array, ...]:
        fields, shown = fields_of(seed, high, low)
        return sums_of(response(shown), fields, size)  # type: ignore[operator]

    @functools.partial(jax.jit, out_shardings=everywhere)
    def of_gradient(seed: jax.Array, high: jax.Array, low: jax.Array, size: jax.Array) -> tuple[jax.Array, ...]:
        """Gradients stand in place of the weighted images; the row of all samples keeps those."""
        images, _ = fields_of(seed, high, low)
        weights = response.weights  # type: ignore[union-attr]
        gradients = jax.vmap(jax.jacrev(lambda image: weights(image[None])[0]))(images)
        gradients = jnp.where((jnp.arange(draws) < size).reshape(-1, 1, 1, 1, 1), gradients, 0)
        *rest, sum_, square_sum = sums_of(weights(images), images, size)
        return (
            *rest,
            jnp.concatenate([gradients.sum(axis=0), sum_[-1:]]),
            jnp.concatenate([jnp.square(gradients).sum(axis=0), square_sum[-1:]]),
        )

    if isinstance(response, Gradient):
        return of_gradient
    if not isinstance(response, BlackBox):
        return of_network
    draw_fields = jax.jit(fields_of)
    sum_up = jax.jit(lambda answers, fields, size: sums_of(response.weigh(answers), fields, size))

    def of_black_box(seed: np.uint32, high: np.uint32, low: np.uint32, size: np.int32) -> tuple[jax.Array, ...]:
        images, shown = draw_fields(seed, high, low)
        return sum_up(_ask(response, np.asarray(shown)), images, size)

    return of_black_box


def _one_ahead(
    dispatch: Callable[[int], tuple[jax.Array, ...]], indices: Iterable[int]
) -> Iterator[tuple[int, tuple[jax.Array, ...]]]:
    """The batches in order; the device already works on the next while the host adds one."""
    last: tuple[int, tuple[jax.Array, ...]] | None = None
    for index in indices:
        following = index, dispatch(index)
        if last is not None:
            yield last
        last = following
    if last is not None:
        yield last


def _split(sums: Sequence[np.ndarray], widths: list[int], windows: int) -> list[Moments]:
    count, weight_sum, weight_square_sum, draw_square_sum, sum_, square_sum, *of_fields = sums
    num_samples = int(count[-1])

    def field_sums(a: int, b: int) -> FieldSums | None:
        if not of_fields:
            return None
        qq, qs, qn, sn, aa, a_s, at, st = of_fields
        own = slice(a, b)  # and the last row is of all samples
        return FieldSums(aa[own], a_s[own], at[own], st[own], aa[-1], qq[own], qs[own], qn[own], sn[own], sn[-1])

    return [
        Moments(
            num_samples=num_samples,
            num_draws=math.ceil(num_samples / windows),
            total_sum=sum_[-1],
            total_square_sum=square_sum[-1],
            count=count[a:b],
            weight_sum=weight_sum[a:b],
            weight_square_sum=weight_square_sum[a:b],
            draw_square_sum=draw_square_sum[a:b],
            sum=sum_[a:b],
            square_sum=square_sum[a:b],
            field_sums=field_sums(a, b),
        )
        for a, b in itertools.pairwise(np.cumsum([0, *widths]))
    ]
