"""Convolution and max-pooling with a fast gradient on a CPU, and batch normalisation without state.

XLA's CPU backend computes a convolution fast, but its gradient, and that of a pooling window, several times more slowly
than the arithmetic requires. So on a CPU the value comes from `lax`, and in training both come from another form of the
same function: written over 2x2 blocks, where the two become one matrix product and a maximum over four numbers, or by
`winograd`, for 2x2 and 3x3 kernels over many channels. On an accelerator everything is `lax`. All forms agree to
float32 rounding, as tests check.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from wna_jax.networks.models import winograd

_EPSILON = 1e-5
_LONGEST_ROW = 32  # numbers in a row; the product with a banded matrix costs the more, the longer rows are
_ALIGNED = 8  # channels; a GPU's matrix units take others far more slowly
_LANES = 16  # numbers in a vector of AVX-512
_FEWEST_CHANNELS = {2: 32, 3: 16}  # by the kernel's size: with fewer, Winograd's sums cost more than its products save
_LARGEST_IMAGE = 64  # pixels; of a field XLA fuses the whole network, which a cut would end
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _trained_as(form: Callable[..., jax.Array]) -> Callable[[Callable[..., jax.Array]], Callable[..., jax.Array]]:
    """Decorates a function that is `form`, but for rounding: it is computed as that where a gradient is asked for."""

    def decorated(value: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        function = jax.custom_vjp(value)
        function.defvjp(lambda *operands: jax.vjp(form, *operands), lambda vjp, gradient: vjp(gradient))
        return function

    return decorated


def space_to_depth(x_nhwc: jax.Array) -> jax.Array:
    """Gathers each 2x2 block of pixels: [n, 2h, 2w, c] -> [n, h, w, 4, c], blocks in row-major order."""
    n, h, w, c = x_nhwc.shape
    x = x_nhwc.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // 2, w // 2, 4, c)


def depth_to_space(x_nhw4c: jax.Array) -> jax.Array:
    """Undoes `space_to_depth`: [n, h, w, 4, c] -> [n, 2h, 2w, c]."""
    n, h, w, _, c = x_nhw4c.shape
    x = x_nhw4c.reshape(n, h, w, 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c)


def convolution(
    lhs: jax.Array, rhs: jax.Array, window_strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
    """`lax.conv_general_dilated` with a fast CPU gradient; give it to `nn.Conv(conv_general_dilated=convolution)`.

    Args:
        lhs: images [n, h, w, c_in].
        rhs: kernel [kh, kw, c_in, c_out].
        window_strides: as in lax.
        padding: as in lax.
        **options: as in lax. Strides, dilation and feature groups other than 1 go to lax unchanged.
    """
    ones = (None, 1, (1, 1), (1,))
    plain = all(options.get(name) in ones for name in ("lhs_dilation", "rhs_dilation", "feature_group_count"))
    on_cpu = jax.default_backend() == "cpu"
    if not on_cpu and plain and lhs.shape[-1] > _ALIGNED:
        missing = ((0, 0),) * 3 + ((0, -lhs.shape[-1] % _ALIGNED),)
        lhs, rhs = jnp.pad(lhs, missing), jnp.pad(rhs, ((0, 0), (0, 0), missing[-1], (0, 0)))
    by_winograd = _suits_winograd(rhs)
    narrow = rhs.shape[:2] == (2, 2) and not by_winograd  # here the gradient of lax is fast, too
    if not on_cpu or tuple(window_strides) != (1, 1) or not plain or narrow:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    padded = _padded_for(lhs, rhs, padding)
    if padded.shape[1:3] == rhs.shape[:2]:  # a dense layer over the whole map
        out = padded.reshape(padded.shape[0], -1) @ rhs.reshape(-1, rhs.shape[-1])
        return out[:, None, None, :]
    return (_trained_by_winograd if by_winograd else _trained_by_blocks)(padded, rhs)


def _suits_winograd(kernel: jax.Array) -> bool:
    kh, kw, c_in, _ = kernel.shape
    return kh == kw and c_in >= _FEWEST_CHANNELS.get(kh, math.inf) and kernel.dtype == jnp.float32


def _padded_for(x_nhwc: jax.Array, kernel: jax.Array, padding: Any) -> jax.Array:
    """Images padded so that a VALID convolution gives what the padding asks for."""
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x_nhwc.shape[1:3], kernel.shape[:2], (1, 1), padding)
    return jnp.pad(x_nhwc, ((0, 0), *padding, (0, 0)))


def _valid_convolution(x_nhwc: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x_nhwc, kernel, (1, 1), "VALID", dimension_numbers=_LAYOUT)


def _blocked_convolution(x_nhwc: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same convolution as one matrix product: 2x2 blocks of outputs from overlapping groups of 2x2 input blocks."""
    n, h, w, _ = x_nhwc.shape
    kh, kw, c_in, c_out = kernel.shape
    out_h, out_w = h - kh + 1, w - kw + 1
    blocks_h, blocks_w = math.ceil(out_h / 2), math.ceil(out_w / 2)
    reach_h, reach_w = math.ceil((kh + 1) / 2), math.ceil((kw + 1) / 2)  # input blocks per output block
    pad_h, pad_w = 2 * (blocks_h + reach_h - 1) - h, 2 * (blocks_w + reach_w - 1) - w
    blocks = space_to_depth(jnp.pad(x_nhwc, ((0, 0), (0, pad_h), (0, pad_w), (0, 0))))
    patches = jnp.concatenate(
        [blocks[:, i : i + blocks_h, j : j + blocks_w] for i in range(reach_h) for j in range(reach_w)], axis=3
    )  # [n, blocks_h, blocks_w, reach_h * reach_w * 4, c_in]
    shifted = jnp.stack(
        [
            jnp.pad(kernel, ((a, 2 * reach_h - kh - a), (b, 2 * reach_w - kw - b), (0, 0), (0, 0)))
            for a in (0, 1)
            for b in (0, 1)
        ],
        axis=3,
    ).reshape(reach_h, 2, reach_w, 2, c_in, 4 * c_out)
    matrix = shifted.transpose(0, 2, 1, 3, 4, 5).reshape(-1, 4 * c_out)
    out = patches.reshape(n * blocks_h * blocks_w, -1) @ matrix
    return depth_to_space(out.reshape(n, blocks_h, blocks_w, 4, c_out))[:, :out_h, :out_w]


_trained_by_blocks = _trained_as(_blocked_convolution)(_valid_convolution)
_trained_by_winograd = _trained_as(winograd.convolution)(_valid_convolution)


class Convolution(nn.Module):
    """A convolution at stride 1 with a bias, whose parameters are those of `nn.Conv`.

    `pooled` is the layer with `max_pool` behind it, computed together in the form that the device likes.
    """

    features: int
    kernel_size: tuple[int, int]
    padding: str = "VALID"

    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, h, w, c] -> [n, h', w', features]."""
        kernel, bias = self._parameters(x.shape[-1])
        out = convolution(x, kernel, (1, 1), self.padding, dimension_numbers=_LAYOUT)
        return out + jnp.broadcast_to(bias, out.shape)

    def pooled(self, x: jax.Array) -> jax.Array:
        """[n, h, w, c] -> [n, h'//2, w'//2, features]: `max_pool` of the layer, computed together."""
        if self.is_mutable_collection("intermediates"):  # somebody looks at the layer's own output
            return max_pool(self(x))
        kernel, bias = self._parameters(x.shape[-1])
        out = pooled_convolution(x, kernel, self.padding)
        return out + jnp.broadcast_to(bias, out.shape)

    @nn.compact
    def _parameters(self, channels: int) -> tuple[jax.Array, jax.Array]:
        shape = (*self.kernel_size, channels, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,))


def pooled_convolution(x_nhwc: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    """`max_pool` of a convolution, [n, h, w, c_in] -> [n, h'//2, w'//2, c_out]."""
    c_in, c_out = kernel.shape[2:]
    on_cpu, aligned = jax.default_backend() == "cpu", c_out % _LANES == 0
    if on_cpu and _suits_winograd(kernel):
        return _pooled_trained_by_winograd(_padded_for(x_nhwc, kernel, padding), kernel)
    if c_in >= 64 or (on_cpu and (aligned or max(x_nhwc.shape[1:3]) > _LARGEST_IMAGE)):
        return max_pool(convolution(x_nhwc, kernel, (1, 1), padding, dimension_numbers=_LAYOUT))
    x_nhwc = _padded_for(x_nhwc, kernel, padding)
    if on_cpu:
        return _pooled_trained_by_blocks(x_nhwc, kernel)
    if c_in * x_nhwc.shape[2] <= _LONGEST_ROW:
        return _pooled_rows(x_nhwc, kernel)
    return _convolved_blocks(x_nhwc, kernel).max(axis=3)


def _pooled_in_lanes(x_nhwc: jax.Array, kernel: jax.Array) -> jax.Array:
    """`max_pool` of a VALID convolution, with as many features as fill whole vectors of a CPU; the rest is cut off."""
    missing = -kernel.shape[-1] % _LANES
    out = lax.conv_general_dilated(
        x_nhwc, jnp.pad(kernel, ((0, 0),) * 3 + ((0, missing),)), (1, 1), "VALID", dimension_numbers=_LAYOUT
    )
    return _window_maximum(out)[..., : kernel.shape[-1]]


def _pooled_by_blocks(x_nhwc: jax.Array, kernel: jax.Array) -> jax.Array:
    return _blocked_maximum(_blocked_convolution(x_nhwc, kernel))


def _pooled_by_winograd(x_nhwc: jax.Array, kernel: jax.Array) -> jax.Array:
    """`max_pool` of a VALID convolution, whose windows are the blocks of the algorithm."""
    h, w = ((size - len(kernel) + 1) // 2 for size in x_nhwc.shape[1:3])
    return _largest(*(block[:, :h, :w] for block in winograd.blocks_of_outputs(x_nhwc, kernel)))


@jax.custom_vjp
def _largest(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    """The largest of four, element by element; the gradient is shared equally among those that are it."""
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _share(four_and_largest: Sequence[jax.Array], gradient: jax.Array) -> tuple[jax.Array, ...]:
    *four, largest = four_and_largest
    are_it = [x == largest for x in four]
    share = gradient / sum(x.astype(gradient.dtype) for x in are_it)
    return tuple(jnp.where(x, share, 0) for x in are_it)


def _largest_and_terms(*four: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    largest = _largest(*four)
    return largest, (*four, largest)


_largest.defvjp(_largest_and_terms, _share)


_pooled_trained_by_blocks = _trained_as(_pooled_by_blocks)(_pooled_in_lanes)
_pooled_trained_by_winograd = _trained_as(_pooled_by_winograd)(_pooled_in_lanes)


def _convolved_blocks(x_nhwc: jax.Array, kernel: jax.Array, precision: Any = None) -> jax.Array:
    """A VALID convolution of 2x2 blocks, [n, h'//2, w'//2, 4, c_out]: the four pixels of a pool side by side."""
    n, h, w, _ = x_nhwc.shape
    kh, kw, c_in, c_out = kernel.shape
    out_h, out_w = (h - kh + 1) // 2, (w - kw + 1) // 2
    reach_h, reach_w = (kh + 2) // 2, (kw + 2) // 2  # input blocks per output block
    blocks = space_to_depth(_cropped(_cropped(x_nhwc, 1, 2 * (out_h + reach_h - 1)), 2, 2 * (out_w + reach_w - 1)))
    shifted = [
        jnp.pad(kernel, ((i, 2 * reach_h - kh - i), (j, 2 * reach_w - kw - j), (0, 0), (0, 0)))
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    of_blocks = jnp.stack(shifted, axis=3).reshape(reach_h, 2, reach_w, 2, c_in, 4 * c_out)
    of_blocks = of_blocks.transpose(0, 2, 1, 3, 4, 5).reshape(reach_h, reach_w, 4 * c_in, 4 * c_out)
    out = lax.conv_general_dilated(
        blocks.reshape(*blocks.shape[:3], -1),
        of_blocks,
        (1, 1),
        "VALID",
        dimension_numbers=_LAYOUT,
        precision=precision,
    )
    return out.reshape(n, out_h, out_w, 4, c_out)


def _pooled_rows(x_nhwc: jax.Array, kernel: jax.Array) -> jax.Array:
    """A VALID convolution and `max_pool`, as products of whole rows and a banded matrix.

    That is more arithmetic, of the kind that a GPU does fastest. NaN or infinity in a row reaches all of it.
    """
    n, h, w, c_in = x_nhwc.shape
    kh, _, _, c_out = kernel.shape
    out_h, reach = (h - kh + 1) // 2, (kh + 2) // 2
    together = 2 if out_h % 2 == 0 else 1  # pooled rows per product
    pairs = together + reach - 1  # of rows that they need
    single = jnp.eye(2 * pairs * w * c_in, dtype=kernel.dtype).reshape(-1, 2 * pairs, w, c_in)
    banded = _convolved_blocks(single, kernel, "highest").transpose(0, 3, 1, 2, 4).reshape(len(single), -1)
    x_pairs = _cropped(x_nhwc, 1, 2 * (out_h + reach - 1)).reshape(n, out_h + reach - 1, -1)
    rows = jnp.concatenate([x_pairs[:, i : i + out_h - together + 1 : together] for i in range(pairs)], axis=-1)
    out = rows.reshape(-1, len(single)) @ banded
    return out.reshape(n * out_h // together, 4, -1).max(axis=1).reshape(n, out_h, -1, c_out)


def _cropped(x: jax.Array, axis: int, size: int) -> jax.Array:
    """An axis cut to a size, or filled up with zeros."""
    missing = [(0, max(0, size - x.shape[i]) if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(lax.slice_in_dim(x, 0, min(size, x.shape[axis]), axis=axis), missing)


def max_pool(x_nhwc: jax.Array) -> jax.Array:
    """Maximum over 2x2 windows at stride 2; an odd last row or column is dropped: [n, h, w, c] -> [n, h//2, w//2, c].

    Where several pixels of a window share the maximum, the gradient is shared equally among them on a CPU (lax, on an
    accelerator, gives all of it to the first).
    """
    return _max_pool_cpu(x_nhwc) if jax.default_backend() == "cpu" else _window_maximum(x_nhwc)


def _window_maximum(x_nhwc: jax.Array) -> jax.Array:
    return lax.reduce_window(x_nhwc, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _blocked_maximum(x_nhwc: jax.Array) -> jax.Array:
    _, h, w, _ = x_nhwc.shape
    return space_to_depth(x_nhwc[:, : h // 2 * 2, : w // 2 * 2]).max(axis=3)


_max_pool_cpu = _trained_as(_blocked_maximum)(_window_maximum)


class HalvingConvolution(nn.Module):
    """A 4x4 convolution at stride 2: [n, 2h, 2w, c] -> [n, h, w, features].

    It is computed as a 2x2 convolution over 2x2 blocks: the same sum, and faster to train on a CPU.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, 2h, 2w, c] -> [n, h, w, features]; x is padded by one pixel, as with SAME padding."""
        blocks = space_to_depth(_padded(x))
        return _conv_of_blocks(self.features)(blocks.reshape(*blocks.shape[:3], -1))


class DoublingConvolution(nn.Module):
    """A transposed 4x4 convolution at stride 2: [n, h, w, c] -> [n, 2h, 2w, features].

    It is computed over 2x2 blocks, as `HalvingConvolution` is, and has a bias for each pixel of a block.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, h, w, c] -> [n, 2h, 2w, features]."""
        blocks = _conv_of_blocks(4 * self.features)(_padded(x))
        return depth_to_space(blocks.reshape(*blocks.shape[:3], 4, self.features))[:, 1:-1, 1:-1]


def _conv_of_blocks(features: int) -> nn.Conv:
    return nn.Conv(features, (2, 2), padding="VALID", conv_general_dilated=convolution, name="conv")


def _padded(x_nhwc: jax.Array) -> jax.Array:
    return jnp.pad(x_nhwc, ((0, 0), (1, 1), (1, 1), (0, 0)))


class BatchNormalisation(nn.Module):
    """Batch normalisation over the last axis; a trained network keeps no running statistics, only x -> scale x + bias.

    In training, which the layer detects by a mutable collection "batch_statistics", x is first normalised to mean 0 and
    variance 1 over the batch, and the batch's mean and variance are stored in that collection. `fold_statistics` folds
    them into scale and bias, so that a trained network consists of its parameters alone.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., c] -> [..., c]."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        if self.is_mutable_collection("batch_statistics") and not self.is_initializing():
            axes = tuple(range(x.ndim - 1))
            statistics = {"mean": x.mean(axis=axes), "variance": x.var(axis=axes)}
            for name, value in statistics.items():
                self.sow("batch_statistics", name, value, reduce_fn=lambda _, new: new, init_fn=lambda: None)
            folded = fold_statistics({"scale": scale, "bias": bias}, statistics)
            scale, bias = folded["scale"], folded["bias"]
        return x * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(bias, x.shape)


def fold_statistics(parameters: dict, statistics: dict) -> dict:
    """Parameters for evaluation: the statistics of each `BatchNormalisation` layer, folded into its scale and bias.

    Args:
        parameters: the module's parameters, as trained.
        statistics: its collection "batch_statistics", a mean and a variance per layer; empty if it has no such layer.
    """
    if "variance" in statistics:
        scale = parameters["scale"] * lax.rsqrt(statistics["variance"] + _EPSILON)
        return {"scale": scale, "bias": parameters["bias"] - scale * statistics["mean"]}
    return parameters | {name: fold_statistics(parameters[name], inner) for name, inner in statistics.items()}
