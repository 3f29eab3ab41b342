"""The one streaming loop: noise -> response -> additive moments. The samples are never held.

Draw i of a seed is one fixed image (or field), made from the key folded with i. So a result does not depend on the
batch size, on the number of devices or on interruptions, but for the rounding of float32 sums within a batch; and any
single sample can be drawn again.
"""

import contextlib
import itertools
import math
import operator
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from wna_jax.correlation.examination import examine
from wna_jax.correlation.fields import FIELD_GRID, Geometry, draw_and_present, find_field, independent, two_words
from wna_jax.correlation.moments import Batch, Moments
from wna_jax.correlation.origin import Half, Origin, Samples
from wna_jax.correlation.program import Program
from wna_jax.noise import Noise
from wna_jax.noise.checks import check
from wna_jax.responses import BlackBox, Classifier, Gradient, on_host
from wna_jax.runs import compilation, memory
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.runs.seeds import key_of
from wna_jax.runs.store import State, Store

Response = Callable[[jax.Array], Any]
"""Images [n, H, W, C] -> weights [n, K], or a pytree of such weights."""
Sampling = Literal["auto", "independent", "field"]
SAMPLINGS: tuple[Sampling, ...] = ("auto", "independent", "field")

_SECONDS_BETWEEN_REPORTS = 0.5
_SECONDS_PER_DISPATCH = 0.1
_BYTES_PER_BATCH = 2**28  # of noise on an accelerator
_PIXELS_PER_BATCH = 2**20  # on a CPU, half as many of fields: what stays in its caches
_FEWEST_IMAGES = 16  # or calls take longer than the images of a large network
_BYTES_PER_DISPATCH = 2**28  # of moments, which wait on the device for the host
_FIELD_SUMS = 2  # the version of `FieldSums` in a state
_HALVES = "even and odd draws"  # in a state; they were batches once
_FEWEST_FIELDS = 20  # below that, "auto" stays with independent samples: too few draws to tell the error of anything


class Parts(NamedTuple):
    """The samples of one run in two independent halves, and the way to the first: each in the response's structure."""

    first: Any
    """`Moments` of the even draws."""
    second: Any
    """`Moments` of the odd draws; empty where there is one draw."""
    course: list[Any]
    """`Moments` of the even draws of the first 1, 2, 4, 8, ... batches, to see how maps converge, if asked for."""


def reverse_correlate(
    noise: Noise, response: Response | BlackBox | Gradient, num_samples: int = 1_000_000, **options: Any
) -> Any:
    """Draws noise samples, lets the network respond, and sums them up by response.

    The sum of the two halves of `reverse_correlate_in_parts` without a course, which says what all arguments are.

    Returns:
        `Moments`, in the structure of the response's weights.
    """
    parts = reverse_correlate_in_parts(noise, response, num_samples, **({"course": False} | options))
    is_one = {"is_leaf": lambda part: isinstance(part, Moments)}
    return jax.tree.map(lambda first, second: first + second, parts.first, parts.second, **is_one)


def reverse_correlate_in_parts(
    noise: Noise,
    response: Response | BlackBox | Gradient,
    num_samples: int = 1_000_000,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    sampling: Sampling = "auto",
    course: bool = True,
    state_dir: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    report: Report = silent,
) -> Parts:
    """`reverse_correlate` in two independent halves, the even and the odd draws, to tell how reliable maps are.

    The work is spread over all devices that JAX sees, of all processes of a `jax.distributed` program.

    Args:
        noise: the distribution of the samples.
        response: images [n, H, W, C] -> weights [n, K] or a pytree of such weights; any function that `jax.jit` takes,
            or a black box or gradient of `wna_jax.responses`. What a function closes over must not change between calls
            with the same function. Where the response is a pytree, such as those of `responses`, its arrays are
            arguments of the compiled program: all networks of one architecture share it.
        num_samples: N, how many noise samples.
        seed: of the noise; draw i of a seed is always the same image or field.
        batch_size: samples per network pass, rounded to as many draws for each half and device; memory grows with it,
            the result does not change. By default up to 512 on a CPU and 65,536 on an accelerator, with fields
            16,384 and 262,144; fewer where images are large.
        sampling: "independent" images, the overlapping windows of a "field" (`correlation.fields` says what that does
            to statistics), or "auto": fields where noise and network allow it and N is at least 20 fields, about
            20,000.
        course: keep the sums on the way, one copy of them each time that the samples have doubled. Without, a run of a
            million images takes a quarter of the memory, and convergence cannot be seen.
        state_dir: a directory to keep the job's state in, every few seconds and when interrupted: the same call then
            goes on from there, and one with more samples extends the run.
        identity: what else than these arguments decides the result (JSON values); a state of another identity is
            refused. What noise and response are made of, parameters included, belongs to it anyway.
        report: progress, in samples.

    Returns:
        `Parts`: the two halves and the course, each `Moments` in the structure of the response's weights.

    Raises:
        InputError: a number that is not above 0, more sums than there is memory for, noise that is not what it
            declares, weights of another shape, NaN or infinite weights, fields asked for where there are none, or a
            state of another job.
    """
    num_samples, batch_size, seed = _whole_numbers(num_samples, batch_size, seed)
    response = on_host(response)
    check(noise)
    weights = examine(noise, response)
    widths = [leaf.shape[1] for leaf in jax.tree.leaves(weights)]
    geometry = _choose_geometry(sampling, noise, response, num_samples)
    draws = _draws_per_batch(batch_size, geometry, noise)
    batch = draws * geometry.windows
    program = Program.of(noise, response, geometry, draws)

    def added(run: _Run, index: int, of_batch: Batch) -> _Run:
        """The run with one more batch: float32 sums into the float64 sums of their half, int32 counts into int64."""
        first, second = map(operator.add, run.halves, of_batch.halves())  # NumPy adds into the wider type
        if not of_batch.is_finite:
            raise InputError(
                f"the response gave NaN, infinite or far too large weights for noise samples {index * batch} to "
                f"{min((index + 1) * batch, num_samples) - 1} of seed {seed}: check the network's outputs on noise"
            )
        points = [*run.course, first] if course and (index + 1).bit_count() == 1 else run.course
        return _Run(index + 1, (first, second), points)

    zero = program.zero(sum(widths))
    _check_memory(zero, noise.shape, sum(widths), math.ceil(num_samples / batch) if course else 0)
    at_once = _most_at_once(zero) if program.box is None else 1
    run = _Run(0, (zero, zero), [])
    # Names are for those who read a refusal; what decides the sums is all that noise and response are made of.
    names = {"noise": noise.name, "responses": list(getattr(response, "names", ())), "seed": seed}
    noise_fingerprint = fingerprint(noise)
    what = names | {"noise_fingerprint": noise_fingerprint, "response_fingerprint": fingerprint(response)}
    sampled = "independent" if geometry.grid == 1 else f"field of {geometry.windows} windows"
    how = {"shape": list(noise.shape), "widths": widths, "sampling": sampled, "batch": batch, "halves": _HALVES}
    how |= {} if geometry.grid == 1 else {"field_sums_version": _FIELD_SUMS}
    how |= {} if course else {"course": False}
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(state_dir, what | how | dict(identity or {}))) if state_dir else None
        if store and (state := store.load(lambda points: ((zero, zero), [zero] * points))):
            run = _Run(state.step, *state.tree)
        if run.batches * batch > num_samples:
            raise InputError(
                f"{state_dir} holds {run.batches * batch:,} samples, num_samples is {num_samples:,}: "
                "ask for at least as many, or give another output directory"
            )
        if store:
            stack.callback(lambda: store.save(run.state()))  # however this ends: `run` is always a whole one
        told = time.monotonic()
        report(Progress("noise", run.batches * batch, num_samples, "samples"))
        for index, of_batch in _in_order(program, seed, range(run.batches, num_samples // batch), batch, at_once):
            run = added(run, index, of_batch)
            if store:
                store.save_now_and_then(run.state())
            if time.monotonic() - told > _SECONDS_BETWEEN_REPORTS and run.batches * batch < num_samples:
                told = time.monotonic()
                report(Progress("noise", run.batches * batch, num_samples, "samples"))
        # The last, incomplete batch is never part of the state: a run that is extended later has the sums of a run that
        # was asked for as many samples at once.
        whole, rest = run, range(run.batches, math.ceil(num_samples / batch))
        for index, of_batch in _in_order(program, seed, rest, num_samples % batch, at_once):
            whole = added(run, index, of_batch)
    report(Progress("noise", num_samples, num_samples, "samples"))

    answering = fingerprint(_answering(response))
    own = [slice(a, b) for a, b in itertools.pairwise(np.cumsum([0, *widths]))]
    paths = [jax.tree_util.keystr(path, simple=True) for path, _ in jax.tree.leaves_with_path(weights)]

    def by_response(moments: Moments, half: Half, batches: int) -> Any:
        """The moments of all responses side by side, in the structure of the response's weights."""
        ends = min(batches * draws, math.ceil(num_samples / geometry.windows))
        samples = (Samples(seed, sampled, ends, half),) if moments.num_samples else ()
        counted = replace(moments, num_samples=int(moments.num_samples), num_draws=int(moments.num_draws))
        each = [
            replace(
                counted.of_responses(columns), origin=Origin(noise.name, noise_fingerprint, path, answering, samples)
            )
            for columns, path in zip(own, paths, strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(weights), each)

    points = [by_response(moments, "even", 2**i) for i, moments in enumerate(run.course)]
    first, second = whole.halves
    return Parts(by_response(first, "even", whole.batches), by_response(second, "odd", whole.batches), points)


def _answering(response: Any) -> Any:
    """What a response is made of, but for which of a classifier's responses were asked for: their names tell those."""
    if isinstance(response, Classifier):
        return response.network, response.outputs, response.classes
    return (
        (response.function, response.outputs, response.classes)
        if isinstance(response, BlackBox) and response.names
        else response
    )


class _Run(NamedTuple):
    """How far a run is, with the moments of all responses side by side."""

    batches: int
    halves: tuple[Moments, Moments]
    course: list[Moments]

    def state(self) -> State:
        return State(self.batches, (self.halves, self.course), len(self.course))


def draw_samples(noise: Noise, count: int, *, seed: int = 0, first: int = 0) -> Float[jax.Array, "n H W C"]:
    """Independent samples from number `first` on, as `reverse_correlate` shows them: [count, H, W, C]."""
    count, _, seed = _whole_numbers(count, None, seed)
    return _shown(noise, key_of(seed), *two_words(first), count)


@compilation.jit
def _shown(noise: Noise, key: jax.Array, high: np.uint32, low: np.uint32, count: int) -> jax.Array:
    return draw_and_present(noise, key, high, low, count)[1]


def _whole_numbers(num_samples: Any, batch_size: Any, seed: Any) -> tuple[int, Any, int]:
    """The numbers as Python's, NumPy's among them."""
    found: list[Any] = []
    for what, number, least in (("num_samples", num_samples, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if number is None and what == "batch_size":
            found.append(None)
            continue
        whole = operator.index(number) if hasattr(number, "__index__") else None
        if whole is None or whole < least or (what == "seed" and whole >= 2**32):
            limits = "from 0 to 2^32 - 1" if what == "seed" else f"of at least {least}"
            raise InputError(f"{what} is {number}: it must be a whole number {limits}")
        found.append(whole)
    return found[0], found[1], found[2]


def _check_memory(zero: Moments, shape: tuple[int, ...], responses: int, batches: int) -> None:
    """Refuses sums that do not fit: two halves and two new ones, their course, two new batches in float32."""
    size, arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(zero)), 6 + batches.bit_length()
    what = f"the sums of {responses:,} responses to images {shape}, {arrays} times {memory.gigabytes(size)}"
    way_out = "keep those of some classes (classes=, --classes), or no course (course=False, --noconvergence)"
    memory.check(arrays * size, what, f"{way_out}, name fewer responses, or take smaller images")


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


def _draws_per_batch(batch_size: int | None, geometry: Geometry, noise: Noise) -> int:
    """Whole draws, the same even number for each device."""
    images, pixels = geometry.grid == 1, math.prod(geometry.field) * noise.shape[2]
    pixels = max(pixels, math.prod(noise.shown_shape))  # those of coarse noise are shown in squares
    if batch_size is not None:
        draws = math.ceil(batch_size / geometry.windows)
    elif jax.default_backend() == "cpu":
        fit, most = (_PIXELS_PER_BATCH, 512) if images else (_PIXELS_PER_BATCH // 2, 16)
        draws = min(most, max(_FEWEST_IMAGES * images, _power_of_two(fit // pixels)))
    else:
        fit, most = _BYTES_PER_BATCH // (4 * pixels), 65_536 if images else 256
        draws = min(most, _power_of_two(fit))
    of_half = math.ceil(max(1, draws) / (2 * jax.device_count()))
    return 2 * of_half * jax.device_count()


def _power_of_two(number: int) -> int:
    """The largest one that is not larger; 0 for 0."""
    return 2 ** number.bit_length() // 2


def _most_at_once(moments: Moments) -> int:
    """The most batches per dispatch: an accelerator must not wait for the host, and a CPU has nothing to wait for."""
    if jax.default_backend() == "cpu":
        return 1
    most = 16 if jax.process_count() == 1 else 4  # all processes take as many: no clock decides
    return max(1, min(most, _BYTES_PER_DISPATCH // sum(leaf.nbytes for leaf in jax.tree.leaves(moments))))


def _in_order(program: Program, seed: int, batches: range, size: int, at_once: int) -> Iterator[tuple[int, Batch]]:
    """The sums of one batch after the other; the device already works on the next while the host adds some.

    One dispatch takes twice as many batches as the last, up to `at_once`, until the device works long enough on it.
    """
    waiting: tuple[range, Batch] | None = None
    count = 1
    while batches or waiting:
        following = None
        if batches:
            own, batches = batches[:count], batches[count:]
            following = own, program.dispatch(seed, own, size, at_once)
        if waiting:
            started = time.monotonic()
            found = jax.device_get(waiting[1])
            if time.monotonic() - started < _SECONDS_PER_DISPATCH or jax.process_count() > 1:
                count = min(2 * count, at_once)
            for i, index in enumerate(waiting[0]):
                yield index, found if at_once == 1 else jax.tree.map(lambda leaf, i=i: leaf[i], found)
        waiting = following
