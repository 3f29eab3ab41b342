"""The compiled heart of the loop: from the number of a batch to the moments of its halves, in one program."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from wna_jax.correlation.fields import Geometry, draw_and_present, keys_of_draws, show, two_words, window_sums
from wna_jax.correlation.moments import Batch, FieldSums, Moments
from wna_jax.noise import Noise
from wna_jax.responses import BlackBox, Gradient
from wna_jax.runs import compilation
from wna_jax.runs.seeds import key_of


@dataclass(frozen=True)
class Program:
    """The moments of the even and odd draws of a batch, spread over all devices; all responses stand side by side.

    It is compiled once for a kind of noise and response (a `compilation.Structure`), whose arrays are its arguments.
    """

    compiled: "_Compiled"
    arrays: list[Any]
    stimulus: Noise
    box: BlackBox | None
    of_gradients: bool
    geometry: Geometry
    draws: int

    @classmethod
    def of(cls, noise: Noise, response: Any, geometry: Geometry, draws: int) -> "Program":
        """The program for a noise, a response, and so many draws per batch."""
        stimulus = noise if geometry.grid == 1 else noise.resized(geometry.field)
        of_gradients = isinstance(response, Gradient)
        asked = response.weights if of_gradients else response
        box = asked if isinstance(asked, BlackBox) else None
        nameless = replace(stimulus, name="")  # noises that differ in their names and arrays alone share a program
        arrays, structure = compilation.take_apart((nameless, box.weigh if box else response))
        arrays = [_on_all_devices(array) for array in arrays]  # once, not with every batch
        return cls(_compile(structure, geometry, draws), arrays, stimulus, box, of_gradients, geometry, draws)

    def __call__(self, seed: np.uint32, high: np.uint32, low: np.uint32, size: np.int32) -> Batch:
        """The sums, in float32 and int32, of the first `size` samples of the batch from draw 2^32 high + low on."""
        if self.box is None:
            return self.compiled.moments(self.arrays, seed, high, low, size)
        drawn, shown = self.compiled.draw(self.arrays, seed, high, low)
        answers = self.box.ask(shown)
        if not self.of_gradients:
            return self.compiled.sum_up(self.arrays, answers, drawn, size)
        gradients = self.box.pull_back(shown, self.compiled.slopes(self.arrays, answers))
        return self.compiled.sum_up_gradients(self.arrays, seed, high, low, answers, gradients, size)

    def dispatch(self, seed: int, batches: range, size: int, at_once: int) -> Batch:
        """Starts to compute the sums of the first `size` samples of each of some batches.

        Where there may be more than one at once, each leaf is [at_once, ...]. Their number does not change a bit.
        """
        if at_once == 1:
            return self(np.uint32(seed), *two_words(batches.start * self.draws), np.int32(size))
        highs, lows = np.resize([two_words(index * self.draws) for index in batches], (at_once, 2)).T
        return self.compiled.several(self.arrays, np.uint32(seed), highs, lows, np.int32(size), np.int32(len(batches)))

    def zero(self, num_responses: int) -> Moments:
        """The moments of no samples, in the types in which batches are added up."""

        def zeros(half: Any) -> np.ndarray:
            return np.zeros(half.shape[1:], np.int64 if np.issubdtype(half.dtype, np.integer) else np.float64)

        shapes = _shapes(self.geometry, self.draws, self.stimulus.shape, self.stimulus.mean.shape, num_responses)
        return jax.tree.map(zeros, shapes)


@functools.lru_cache(maxsize=64)
def _shapes(
    geometry: Geometry, draws: int, field: tuple[int, ...], mean: tuple[int, ...], num_responses: int
) -> Moments:
    grid = () if geometry.grid == 1 else (geometry.grid,) * 2
    arrays = [
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (mean, (draws, *grid, num_responses), (draws, *field))
    ]
    sums_of = functools.partial(sums_of_batch, geometry)
    return jax.eval_shape(sums_of, *arrays, jax.ShapeDtypeStruct((), jnp.int32))[1]


class _Compiled(NamedTuple):
    moments: Callable[..., Batch]
    several: Callable[..., Batch]
    draw: Callable[..., tuple[jax.Array, jax.Array]]
    sum_up: Callable[..., Batch]
    slopes: Callable[..., jax.Array]
    sum_up_gradients: Callable[..., Batch]


_square: Callable[[Any], Any] = jnp.square  # Any: moments hold NumPy arrays on the host, JAX's in a program
_split: Callable[[Any], Any] = functools.partial(jnp.split, indices_or_sections=2, axis=-1)


def _mesh() -> jax.sharding.Mesh:
    return jax.make_mesh((jax.device_count(),), ("draws",), axis_types=(AxisType.Auto,))


def _everywhere() -> NamedSharding:
    return NamedSharding(_mesh(), PartitionSpec())


def _on_all_devices(array: Any) -> jax.Array:
    if jax.process_count() == 1:
        return jax.device_put(array, _everywhere())
    own = np.asarray(
        array, jax.dtypes.canonicalize_dtype(array.dtype)
    )  # each process has it, and gives it to its devices
    return jax.make_array_from_callback(own.shape, _everywhere(), lambda index: own[index])


@functools.lru_cache(maxsize=16)  # kinds of networks and noises that are kept compiled
def _compile(structure: compilation.Structure, geometry: Geometry, draws: int) -> _Compiled:
    spread = NamedSharding(_mesh(), PartitionSpec("draws"))
    jit = functools.partial(jax.jit, out_shardings=_everywhere())

    def draw(arrays: list, seed: jax.Array, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What is averaged, and what is shown."""
        stimulus, _ = structure.with_arrays(arrays)
        drawn = draw_and_present(stimulus, key_of(seed), high, low, draws)
        return jax.lax.with_sharding_constraint(drawn, spread)

    def moments(arrays: list, seed: jax.Array, high: jax.Array, low: jax.Array, size: jax.Array) -> Batch:
        stimulus, response = structure.with_arrays(arrays)
        drawn, shown = draw(arrays, seed, high, low)
        if isinstance(response, Gradient):
            keys, weights = keys_of_draws(key_of(seed), high, low, draws), response.weights

            def of_draw(key: jax.Array, draw: jax.Array) -> jax.Array:
                return _side_by_side(weights(show(stimulus, key[None], draw[None])))[0]

            gradients = jax.vmap(jax.jacrev(of_draw, argnums=1))(keys, drawn)
            return Batch.of(*_sums_of_gradients(geometry, stimulus.mean, weights(shown), gradients, drawn, size))
        return Batch.of(*sums_of_batch(geometry, stimulus.mean, response(shown), drawn, size))

    def sum_up(arrays: list, answers: jax.Array, drawn: jax.Array, size: jax.Array) -> Batch:
        stimulus, weigh = structure.with_arrays(arrays)
        return Batch.of(*sums_of_batch(geometry, stimulus.mean, weigh(answers), drawn, size))

    def slopes(arrays: list, answers: jax.Array) -> jax.Array:
        """The derivatives of each weight by the answers, [m, n, K]."""
        _, weigh = structure.with_arrays(arrays)
        of_image = jax.jacrev(lambda answer: _side_by_side(weigh(answer[None]))[0])
        return jnp.moveaxis(jax.vmap(of_image)(answers), 1, 0)

    def sum_up_gradients(
        arrays: list,
        seed: jax.Array,
        high: jax.Array,
        low: jax.Array,
        answers: jax.Array,
        of_shown: jax.Array,
        size: jax.Array,
    ) -> Batch:
        """The sums of the gradients by the draws, of those by what was shown of them, [m, n, h, w, c]."""
        stimulus, weigh = structure.with_arrays(arrays)
        keys, (drawn, _) = keys_of_draws(key_of(seed), high, low, draws), draw(arrays, seed, high, low)
        _, back = jax.vjp(lambda drawn: show(stimulus, keys, drawn), drawn)
        gradients = jnp.moveaxis(jax.vmap(lambda gradients: back(gradients)[0])(of_shown), 0, 1)
        return Batch.of(*_sums_of_gradients(geometry, stimulus.mean, weigh(answers), gradients, drawn, size))

    def several(
        arrays: list, seed: jax.Array, highs: jax.Array, lows: jax.Array, size: jax.Array, count: jax.Array
    ) -> Batch:
        """The sums of each batch, not those of all: float32 sums are added in float64, on the host."""

        def one(i: Any) -> Batch:
            return moments(arrays, seed, highs[i], lows[i], size)

        def put(i: Any, filled: Batch) -> Batch:
            return jax.tree.map(lambda leaf, new: leaf.at[i].set(new), filled, one(i))

        room = jax.tree.map(lambda leaf: jnp.zeros((len(highs), *leaf.shape), leaf.dtype), jax.eval_shape(one, 0))
        return jax.lax.fori_loop(0, count, put, room)

    return _Compiled(jit(moments), jit(several), jax.jit(draw), jit(sum_up), jax.jit(slopes), jit(sum_up_gradients))


def sums_of_batch(
    geometry: Geometry,
    mean: jax.Array,
    answers: Any,
    fields: Float[jax.Array, "n h w c"],
    size: Int[jax.Array, ""],
    *,
    centre: bool = True,
) -> tuple[jax.Array, Moments]:
    """The references [K] and the centred sums of one `Batch`: of its even and its odd draws, each leaf [2, ...].

    Args:
        geometry: of the windows in a field.
        mean: of the noise, [c], or [h, w, c] for independent images.
        answers: weights, a pytree of [draws, K] or [draws, grid, grid, K]; an even number of draws.
        fields: what is averaged.
        size: how many of the batch's samples count.
        centre: whether the weights have a reference other than 0.
    """
    grid = (len(fields), geometry.grid, geometry.grid)
    leaves = [leaf.astype(jnp.float32).reshape(*grid, -1) for leaf in jax.tree.leaves(answers)]
    inside = jnp.arange(math.prod(grid)).reshape(*grid, 1) < size
    raw = jnp.concatenate(leaves, axis=-1)
    reference = _reference(raw, inside, size) if centre else jnp.zeros((1, 1, 1, raw.shape[-1]))
    # The last "response" is that of all samples, of weight 1: its sums come out of the same products.
    weights = jnp.where(inside, jnp.concatenate([raw - reference, jnp.ones((*grid, 1))], axis=-1), 0)
    weight_nk: Any = weights.sum(axis=(1, 2))
    square_nk = _square(weights).sum(axis=(1, 2))
    windows_n: Any = inside.sum(axis=(1, 2, 3), dtype=jnp.int32)
    if geometry.grid == 1:
        odd = (jnp.arange(len(fields)) % 2 == 1).reshape(-1, 1, 1, 1)
        apart = jnp.concatenate([jnp.where(odd, 0, weights), jnp.where(odd, weights, 0)], axis=-1)
        sums: Any = window_sums(apart, jnp.concatenate([fields, jnp.square(fields)], axis=-1), geometry)
        sum_, square_sum = _split(sums.reshape(2, -1, *sums.shape[1:]))
        field_sums = None
    else:
        sum_, square_sum, field_sums = _sums_of_fields(geometry, mean, weights, weight_nk, square_nk, fields)
    own = (slice(None), slice(None, -1))
    centred = Moments(
        num_samples=_by_half(windows_n),
        num_draws=_by_half((windows_n > 0).astype(jnp.int32)),
        total_sum=sum_[:, -1],
        total_square_sum=square_sum[:, -1],
        count=_by_half((inside & (raw != 0)).sum(axis=(1, 2), dtype=jnp.int32)),
        weight_sum=_by_half(weight_nk)[own],
        weight_square_sum=_by_half(square_nk)[own],
        draw_square_sum=_by_half(_square(weight_nk))[own],
        sum=sum_[own],
        square_sum=square_sum[own],
        field_sums=field_sums,
    )
    return reference.reshape(-1), centred


def _halves(each: Any) -> Any:
    """Even and odd draws side by side: [n, ...] -> [n/2, 2, ...]."""
    return each.reshape(-1, 2, *each.shape[1:])


def _by_half(each: Any) -> Any:
    """Sums over the even and over the odd draws, [n, ...] -> [2, ...]."""
    return _halves(each).sum(axis=0)


def _reference(weights_nggk: Any, inside_ngg1: jax.Array, size: jax.Array) -> jax.Array:
    """The smallest or largest weight where the mean is twice as near to it as to 0, else 0: [1, 1, 1, K]."""
    over: dict[str, Any] = {"axis": (0, 1, 2), "keepdims": True, "where": inside_ngg1}
    mean = weights_nggk.sum(**over) / size.astype(jnp.float32)
    smallest, largest = weights_nggk.min(initial=jnp.inf, **over), weights_nggk.max(initial=-jnp.inf, **over)
    near = jnp.where(abs(mean - largest) < abs(mean - smallest), largest, smallest)
    return jnp.where(2 * abs(mean - near) < abs(mean), near, 0)


def _sums_of_fields(
    geometry: Geometry,
    mean: jax.Array,
    weights_nggk: jax.Array,
    weight_nk: Any,
    square_nk: Any,
    fields: jax.Array,
) -> tuple[Any, Any, FieldSums]:
    """Sums of w x and w x^2 of all windows, and of the products of each field's own sums, for each half.

    The products are of centred pixels, or rounding would leave nothing of the small difference that they are for.
    """
    mean = mean.astype(jnp.float32).reshape(1, 1, 1, -1)
    pixels_and_squares = jnp.stack([fields - mean, jnp.square(fields)], axis=-1)
    images = window_sums(weights_nggk, pixels_and_squares.reshape(*fields.shape[:3], -1), geometry, each_field=True)
    images = jnp.moveaxis(images.reshape(*images.shape[:-1], -1, 2), -1, 0)
    a_nkhwc, squares_nkhwc = jax.lax.optimization_barrier(images)  # or each product gathers them again
    t_nhwc, n_n1 = a_nkhwc[:, -1], weight_nk[:, -1:]
    by_weights = jnp.stack([square_nk, weight_nk, jnp.broadcast_to(n_n1, weight_nk.shape)], axis=-1)
    a, t, weight = _halves(a_nkhwc), _halves(t_nhwc), _halves(by_weights)
    product: Any = functools.partial(
        jnp.einsum, precision="highest"
    )  # on a CPU 1.5 times as fast as (a * b).sum(axis=0)
    aa = product("nbkhwc,nbkhwc->bkhwc", a, a)
    own = (slice(None), slice(None, -1))
    aq, a_s, an = product("nbkhwc,nbkj->jbkhwc", a, weight)
    tq, st, tn = product("nbhwc,nbkj->jbkhwc", t, weight)
    sn = _by_half(weight_nk * n_n1)
    field_sums = FieldSums(
        aa=aa[own],
        at=product("nbkhwc,nbhwc->bkhwc", a, t)[own],
        aq=aq[own],
        a_s=a_s[own],
        an=an[own],
        tt=aa[:, -1],
        tq=tq[own],
        st=st[own],
        tn=tn[:, -1],
        qq=_by_half(_square(square_nk))[own],
        qs=_by_half(square_nk * weight_nk)[own],
        qn=_by_half(square_nk * n_n1)[own],
        sn=sn[own],
        nn=sn[:, -1],
    )
    weight = _by_half(weight_nk)[:, :, None, None, None]
    return _by_half(a_nkhwc) + mean[None] * weight, _by_half(squares_nkhwc), field_sums


def _side_by_side(weights: Any) -> jax.Array:
    """A pytree of weights [n, K] as one array."""
    return jnp.concatenate(jax.tree.leaves(weights), axis=-1)


def _sums_of_gradients(
    geometry: Geometry, mean: jax.Array, weights: Any, gradients_nkhwc: Any, drawn: jax.Array, size: jax.Array
) -> tuple[jax.Array, Moments]:
    """Sums in which gradients, and their squares, stand in the place of the weighted images."""
    gradients = jnp.where((jnp.arange(len(drawn)) < size).reshape(-1, 1, 1, 1, 1), gradients_nkhwc, 0)
    reference, moments = sums_of_batch(geometry, mean, weights, drawn, size, centre=False)
    return reference, replace(moments, sum=_by_half(gradients), square_sum=_by_half(_square(gradients)))
