"""How noise becomes samples: independent images, or the overlapping windows of large noise fields.

A network of VALID convolutions and pools answers for every window of a larger image at once: on a field of 152x152
pixels the paper's network gives logits for 1,024 windows of 28x28 at stride 4, for the work of 240 windows. Every
window is exactly white noise; only overlapping windows depend on each other. Independent images are fields of one
window.

What overlap does to statistics: maps and counts have the same mean. The variance of a map, averaged over pixels, is
that of independent samples within 5% for trained networks, so reliability (split half, by fields) and correlations
hold. But a pixel that the network does not see can have a larger error than the formula says where its neighbours at
the stride are seen (by a third in a constructed case), and errors of pixels a stride apart are correlated (.3 to .6
measured). So errors of maps and shares are taken from the spread between fields (computed in `wna_jax.maps`:
`classification_images`, `share_standard_error`), thresholds for single pixels hold as
they are, and tests of clusters need null maps that are correlated in the same way (`overlap`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, UInt32

from wna_jax.noise import Noise
from wna_jax.noise.checks import check
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.runs.seeds import key_of

FIELD_GRID = 32
_MOST_PROBES = 8  # fields


class Geometry(NamedTuple):
    """Windows of one size at a stride in both directions, grid x grid of them in a field."""

    window: tuple[int, int]
    """(H, W)."""
    stride: tuple[int, int]
    grid: int

    @property
    def windows(self) -> int:
        """In one field."""
        return self.grid**2

    @property
    def blocks(self) -> tuple[int, int]:
        """Stride-sized blocks that a window reaches over."""
        return math.ceil(self.window[0] / self.stride[0]), math.ceil(self.window[1] / self.stride[1])

    @property
    def field(self) -> tuple[int, int]:
        """Size of a field."""
        height, width = (w + s * (self.grid - 1) for w, s in zip(self.window, self.stride, strict=True))
        return height, width


def independent(noise: Noise) -> Geometry:
    """One window a field: every sample is an image of its own."""
    window = noise.shape[:2]
    return Geometry(window, window, 1)


def find_field(noise: Noise, response: Callable[[jax.Array], Any], grid: int = FIELD_GRID) -> Geometry | str:
    """The field geometry of a response, found by trying it; or in words why it has none.

    The response must answer a larger image by weights [n, g, g, K] on a regular grid, and each of these must be what it
    answers to the window alone, which SAME padding, global pooling, dropout or a bias by position do not fulfil. Of a
    classifier the logits are compared, at every place of the grid: its decisions could agree by chance.
    """
    arrays, structure = compilation.take_apart((noise, response))
    return _find_field(compilation.ByIdentity(arrays), structure, grid)


@functools.lru_cache(maxsize=8)
def _find_field(same: compilation.ByIdentity, structure: compilation.Structure, grid: int) -> Geometry | str:
    noise, response = structure.with_arrays(same.arrays)
    if not noise.white:
        return f"{noise.name} noise is not white: only images of their own have the covariance of its pixels"
    if noise.draw is None or noise.present is not None:
        return f"{noise.name} noise exists in the size of one image alone"
    answer = getattr(response, "network", response)
    arrays, of_answer = compilation.take_apart(answer)
    stride = _stride(noise.shape, of_answer, tuple(map(_spec, arrays)), grid)
    if isinstance(stride, str):
        return stride
    geometry = Geometry(noise.shape[:2], stride, grid)
    check(noise.resized(geometry.field))
    with jax.default_matmul_precision("highest"):  # two shapes of one network must agree on any device
        return _looks_outside(noise, answer, geometry) or _differs_by_place(noise, answer, geometry) or geometry


def _looks_outside(noise: Noise, answer: Callable[[jax.Array], Any], geometry: Geometry) -> str:
    """Why windows are no samples: outside of some windows a field is NaN, or larger than any noise, and that shows.

    A saturated answer or a compiled maximum may hide the one or the other. The field is as large as those that will be
    asked, since layers have other forms for small images, in which NaN reaches further.
    """
    last = geometry.grid - 1
    apart = [np.linspace(0, last, min(3, 1 + last // (blocks + 1)), dtype=int) for blocks in geometry.blocks]
    i, j = np.resize([(row, column) for row in apart[0] for column in apart[1]], (9, 2)).T
    field = np.asarray(compilation.call(noise.resized(geometry.field).sample, key_of(0)))[None]
    windows = _windows(field, geometry)[0, i, j]
    glare = 1e6 * np.random.default_rng(1).standard_normal(field.shape)
    for shown in (np.full_like(field, np.nan), glare.astype(np.float32)):
        _windows(shown, geometry, writeable=True)[0, i, j] = windows
        together, alone = compilation.call(answer, shown), compilation.call(answer, windows)
        for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            if not _agree(np.asarray(ours)[0, i, j], theirs, answer):
                return "its answer to a window depends on what is outside the window"
    return ""


def _differs_by_place(noise: Noise, answer: Callable[[jax.Array], Any], geometry: Geometry) -> str:
    """Why windows are no samples: somewhere in the grid an answer is not that to the window alone.

    Every window of one field is tried, and some of more fields until there are two different answers: where all
    answers are the same, nothing can be told.
    """
    of_fields, places = noise.resized(geometry.field), np.indices((geometry.grid,) * 2).reshape(2, -1).T
    seen: list[Any] = []
    for number in range(_MOST_PROBES):
        field = np.asarray(compilation.call(of_fields.sample, key_of(number)))[None]
        together, windows = compilation.call(answer, field), _windows(field, geometry)[0]
        tried = places if number == 0 else np.random.default_rng(number).permutation(places)[:9]
        for some in np.split(tried, range(9, len(tried), 9)):
            i, j = np.resize(some, (9, 2)).T  # nine, as before: one compiled program
            alone = compilation.call(answer, windows[i, j])
            for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
                if not _agree(np.asarray(ours)[0, i, j], theirs, answer):
                    return "its answer to a window depends on where the window is, or changes between two askings"
            seen.append(jax.tree.map(np.asarray, alone))
        if any(
            np.ptp(np.concatenate(leaves), axis=0).any() for leaves in zip(*map(jax.tree.leaves, seen), strict=True)
        ):
            return ""
    return "its answers to all windows that were tried are the same, so that no field can be told from a wrong one"


def _agree(ours: Any, theirs: Any, answer: Any) -> bool:
    """Whether answers [n, K] are the same, but for rounding: in the measure in which an answer varies over windows."""
    of_reach, of_value = (0.05, 0.02) if getattr(answer, "precision", "float32") == "bfloat16" else (0.005, 1e-5)
    mine, alone = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    reach = np.ptp(np.where(np.isfinite(alone), alone, 0), axis=0)
    with np.errstate(invalid="ignore"):
        near = np.abs(mine - alone) <= of_reach * reach + of_value * np.abs(alone) + 1e-30
    return bool((near | (mine == alone) | (np.isnan(mine) & np.isnan(alone))).all())


def _spec(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, jax.dtypes.canonicalize_dtype(array.dtype))


@functools.lru_cache(maxsize=16)  # one search for all networks of an architecture
def _stride(
    shape: tuple[int, int, int], response: compilation.Structure, arrays: tuple[jax.ShapeDtypeStruct, ...], grid: int
) -> tuple[int, int] | str:
    """The strides, down and to the right, at which answers to a larger image form a grid."""
    height, width, channels = shape

    def is_grid(down: int, right: int, rows: int, columns: int) -> bool:
        """Whether a response answers an image that is larger by some strides in a grid of rows and columns."""
        larger = (1, height + down * (rows - 1), width + right * (columns - 1), channels)
        images = jax.ShapeDtypeStruct(larger, jnp.float32)
        try:
            answers = jax.eval_shape(lambda arrays, images: response.with_arrays(arrays)(images), list(arrays), images)
        except Exception:  # whatever a network raises on an image of a size that it does not take
            return False
        return {tuple(answer.shape[1:-1]) for answer in jax.tree.leaves(answers)} == {(rows, columns)}

    down = next((s for s in range(1, height + 1) if all(is_grid(s, 1, rows, 1) for rows in (2, 3, 5))), None)
    strides_right = range(1, width + 1) if down else ()
    right = next((s for s in strides_right if all(is_grid(1, s, 1, columns) for columns in (2, 3, 5))), None)
    if down and right and all(is_grid(down, right, both, both) for both in (2, 3, 5)):
        return down, right
    return "the network takes images of one size alone, or its answers to larger ones are no grid of those to windows"


def _windows(fields: np.ndarray, geometry: Geometry, writeable: bool = False) -> np.ndarray:
    """All windows of fields, [n, grid, grid, H, W, C], as views."""
    (down, right), axes = geometry.stride, (1, 2)
    views = np.lib.stride_tricks.sliding_window_view(fields, geometry.window, axes, writeable=writeable)
    return np.moveaxis(views[:, ::down, ::right], 3, -1)


class Overlap(NamedTuple):
    """How the errors of a map's pixels depend on each other where samples overlap, for K responses."""

    stride: tuple[int, int]
    correlation: np.ndarray
    """[K, 2a - 1, 2b - 1]: of errors i - a + 1, j - b + 1 strides apart, 1 in the middle; a x b `Geometry.blocks`."""


def overlap(noise: Noise, response: Callable[[jax.Array], Any], *, num_fields: int = 64, seed: int = 0) -> Any:
    """How the errors of maps from overlapping windows are correlated, in the structure of the response's weights.

    Where the response does not depend on pixels p and p + d strides, the covariance of their errors is, over all pairs
    of windows (u, u + d) of a field, sum (w_u - mean) (w_{u+d} - mean) times a constant: the autocorrelation of the
    response map. Estimated from `num_fields` fields of a seed; for `statistics.null_z_maps`.

    Raises:
        InputError: the response has no field.
    """
    geometry = find_field(noise, response)
    if isinstance(geometry, str):
        raise InputError(f"samples of this response do not overlap: {geometry}")
    field_noise, key = noise.resized(geometry.field), key_of(seed)
    answers = [
        jax.tree.map(np.asarray, _answer_to_field(response, field_noise, key, np.uint32(index)))
        for index in range(num_fields)
    ]
    return jax.tree.map(lambda *weights: _autocorrelation(np.concatenate(weights), geometry), *answers)


@compilation.jit
def _answer_to_field(response: Callable[[jax.Array], Any], noise: Noise, key: jax.Array, index: jax.Array) -> Any:
    return response(draw(noise, key, 0, index, 1))


def _autocorrelation(weights_nggk: np.ndarray, geometry: Geometry) -> Overlap:
    centred = weights_nggk - weights_nggk.mean(axis=(0, 1, 2), dtype=np.float64)
    size = tuple(geometry.grid + blocks for blocks in geometry.blocks)  # padded, so that no lag wraps around
    power = (np.abs(np.fft.rfft2(centred, size, axes=(1, 2))) ** 2).sum(axis=0)
    covariance = np.moveaxis(np.fft.irfft2(power, size, axes=(0, 1)), -1, 0)
    lags = [np.arange(1 - blocks, blocks) for blocks in geometry.blocks]
    here = covariance[:, lags[0]][:, :, lags[1]]
    middle = covariance[:, :1, :1]
    alone = (lags[0] == 0)[:, None] & (lags[1] == 0)  # a response that these fields never got: as if nothing overlapped
    return Overlap(geometry.stride, np.where(middle > 0, here / np.where(middle > 0, middle, 1), alone))


def draw_and_present(
    noise: Noise, key: jax.Array, high: ArrayLike, low: ArrayLike, count: int
) -> tuple[Float[jax.Array, "n H W C"], Float[jax.Array, "n h w c"]]:
    """`count` draws from index 2^32 high + low on, and what is shown of them; decided by key and index alone."""
    lows = jnp.asarray(low) + jnp.arange(count, dtype=jnp.uint32)
    highs = jnp.asarray(high) + (lows < low).astype(jnp.uint32)
    return draws_at(noise, key, highs, lows)


def draws_at(
    noise: Noise, key: jax.Array, highs: UInt32[jax.Array, " n"], lows: UInt32[jax.Array, " n"]
) -> tuple[Float[jax.Array, "n H W C"], Float[jax.Array, "n h w c"]]:
    """The draws of any indices, 2^32 high + low, and what is shown of them."""
    keys = _keys_at(key, highs, lows)
    drawn = jax.vmap(noise.sample)(keys)
    return drawn, show(noise, keys, drawn)


def keys_of_draws(key: jax.Array, high: ArrayLike, low: ArrayLike, count: int) -> jax.Array:
    """The keys of `count` draws from index 2^32 high + low on."""
    lows = jnp.asarray(low) + jnp.arange(count, dtype=jnp.uint32)
    highs = jnp.asarray(high) + (lows < low).astype(jnp.uint32)
    return _keys_at(key, highs, lows)


def _keys_at(key: jax.Array, highs: jax.Array, lows: jax.Array) -> jax.Array:
    return jax.vmap(lambda hi, lo: jax.random.fold_in(jax.random.fold_in(key, hi), lo))(highs, lows)


def show(noise: Noise, keys: jax.Array, drawn: Float[jax.Array, "n H W C"]) -> Float[jax.Array, "n h w c"]:
    """What the network is shown of draws of these keys."""
    return drawn if noise.present is None else jax.vmap(noise.present)(keys, drawn)


def draw(noise: Noise, key: jax.Array, high: ArrayLike, low: ArrayLike, count: int) -> jax.Array:
    """The draws of `draw_and_present` alone: images, or fields."""
    return draw_and_present(noise, key, high, low, count)[0]


def two_words(index: int) -> tuple[np.uint32, np.uint32]:
    """An index as two 32-bit words, so that 10^10 samples are as distinct as 10."""
    return np.uint32(index >> 32), np.uint32(index & 0xFFFFFFFF)


def window_sums(
    weights_nggk: Float[jax.Array, "n g g k"],
    fields_nhwc: Float[jax.Array, "n h w c"],
    geometry: Geometry,
    *,
    each_field: bool = False,
) -> Float[jax.Array, "*n k H W c"]:
    """Sums over all windows, or those of each field: sum of weight x window -> [(n,) k, H, W, c], none is copied.

    It is the correlation of the fields with the response map. In blocks of the stride's size, S[p, q] = sum over (u, v)
    of weight[u, v] block[u + p, v + q]; the weights are shifted over q, so that a matrix product for each p is left.
    """
    n, grid, _, k = weights_nggk.shape
    _, height, width, c = fields_nhwc.shape
    (high, wide), (stride_h, stride_w) = geometry.blocks, geometry.stride
    rows, columns = grid + high - 1, grid + wide - 1
    whole = ((0, 0), (0, rows * stride_h - height), (0, columns * stride_w - width), (0, 0))
    blocks = jnp.pad(fields_nhwc, whole).reshape(n, rows, stride_h, columns, stride_w, c)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, -1)
    shifted = jnp.concatenate(
        [jnp.pad(weights_nggk, ((0, 0), (0, 0), (q, wide - 1 - q), (0, 0))) for q in range(wide)], axis=-1
    )
    product = "nutk,nutc->nkc" if each_field else "nutk,nutc->kc"
    sums = jnp.stack(
        [jnp.einsum(product, shifted, blocks[:, p : p + grid], precision="highest") for p in range(high)], axis=-3
    )
    sums = sums.reshape(*sums.shape[:-3], high, wide, k, stride_h, stride_w, c)
    sums = jnp.moveaxis(sums, (-4, -6, -3, -5, -2, -1), range(-6, 0))
    height, width = geometry.window
    return sums.reshape(*sums.shape[:-5], high * stride_h, wide * stride_w, c)[..., :height, :width, :]
