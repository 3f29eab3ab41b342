"""Convolutions with small kernels from fewer products, for CPUs.

Two neighbouring outputs of a convolution with r weights need 2r products; Winograd's algorithm needs r + 1 of sums of
inputs with sums of weights (Lavin & Gray 2016, arXiv 1509.09308). In two dimensions a 2x2 block of outputs of a 3x3
kernel takes 16 products instead of 36, and those of all images, blocks and channels are 16 matrix products, which a CPU
does fastest. Their gradients are matrix products of the same kind. An output is computed from the pixels under its
kernel alone, as in a plain convolution; the two agree to float32 rounding.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

# By the kernel's length r. The rows of the first two are r + 1 products, each of a sum of inputs and a sum of weights;
# those of the last are the two outputs, sums of products.
_OF_INPUTS = {2: ((1, -1, 0), (0, 1, 0), (0, -1, 1)), 3: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))}
_OF_WEIGHTS = {2: ((1, 0), (1, 1), (0, 1)), 3: ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))}
_OF_PRODUCTS = {2: ((1, 1, 0), (0, 1, 1)), 3: ((1, 1, 1, 0), (0, 1, -1, -1))}
SIZES = tuple(_OF_INPUTS)


def blocks_of_outputs(x_nhwc: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    """A VALID convolution at stride 1, as the four outputs of each 2x2 block: 4 arrays [n, h'/2, w'/2, c_out].

    Args:
        x_nhwc: images [n, h, w, c_in]; where h' = h - r + 1 or w' is odd, the last block reaches into zeros.
        kernel: weights [r, r, c_in, c_out], r one of `SIZES`.
    """
    r, _, c_in, c_out = kernel.shape
    n, *sizes, _ = x_nhwc.shape
    blocks = [(size - r + 2) // 2 for size in sizes]
    x_nhwc = jnp.pad(
        x_nhwc, ((0, 0), *((0, 2 * (b + 1) - size) for b, size in zip(blocks, sizes, strict=True)), (0, 0))
    )
    of_weights = jnp.asarray(_OF_WEIGHTS[r], kernel.dtype)
    weights = jnp.einsum("ai,bj,ijcd->abcd", of_weights, of_weights, kernel, precision="highest")
    inputs = [_sums_of_inputs(rows, r, axis=2) for rows in _sums_of_inputs(x_nhwc, r, axis=1)]
    products = [
        [inputs[a][b].reshape(-1, c_in) @ weights[a, b] for b in range(r + 1)] for a in range(r + 1)
    ]  # [n * blocks, c_out] each
    of_rows = [_sums(_OF_PRODUCTS[r], column) for column in zip(*products, strict=True)]
    outputs = [out for row in zip(*of_rows, strict=True) for out in _sums(_OF_PRODUCTS[r], row)]
    return [out.reshape(n, *blocks, c_out) for out in outputs]


def convolution(x_nhwc: jax.Array, kernel: jax.Array) -> jax.Array:
    """A VALID convolution at stride 1, [n, h, w, c_in] -> [n, h', w', c_out]."""
    r, _, _, c_out = kernel.shape
    n, h, w, _ = x_nhwc.shape
    blocks = blocks_of_outputs(x_nhwc, kernel)
    rows = [jnp.stack(blocks[i : i + 2], axis=3) for i in (0, 2)]  # [n, h'/2, w'/2, 2, c_out]
    out = jnp.stack(rows, axis=2)
    return out.reshape(n, 2 * out.shape[1], 2 * out.shape[3], c_out)[:, : h - r + 1, : w - r + 1]


def _sums_of_inputs(x: jax.Array, r: int, axis: int) -> list[jax.Array]:
    """Each product's sum of inputs along one axis, [..., 2 * (b + 1), ...] -> r + 1 arrays [..., b, ...]."""
    shape = x.shape
    pairs = x.reshape(*shape[:axis], shape[axis] // 2, 2, *shape[axis + 1 :])
    first, second = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    count = shape[axis] // 2 - 1
    overlapping = [lax.slice_in_dim(half, i, i + count, axis=axis) for i in (0, 1) for half in (first, second)]
    return _sums(_OF_INPUTS[r], overlapping[: r + 1])


def _sums(signs: Sequence[Sequence[int]], terms: Sequence[jax.Array]) -> list[jax.Array]:
    """Per row of signs (1, -1 or 0), the sum of the terms with these signs."""
    return [
        functools.reduce(
            operator.add, [term if sign > 0 else -term for sign, term in zip(row, terms, strict=True) if sign]
        )
        for row in signs
    ]
