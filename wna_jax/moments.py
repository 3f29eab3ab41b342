"""Additive sums over noise samples, from which maps, their errors and all tests are made."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from wna_jax.errors import InputError


class _Sums:
    """Dataclasses of sums, which add up field by field."""

    def __add__(self, other: Self) -> Self:
        """The sums over both sets of samples together."""
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]  # type: ignore[arg-type]
        if any((a is None) != (b is None) for a, b in pairs):
            raise InputError("moments of independent samples and of windows of fields do not add up: use one sampling")
        return type(self)(*(None if a is None else a + b for a, b in pairs))


@dataclass(frozen=True)
class FieldSums(_Sums):
    """Sums over fields of products of each field's own sums, for errors where the samples in a field overlap.

    With A = sum w (x - mean of the noise), S = sum w and T = sum (x - mean of the noise), each over the windows of one
    field.
    """

    aa: np.ndarray
    """sum A^2, [K, H, W, C]."""
    a_s: np.ndarray
    """sum A S, [K, H, W, C]."""
    at: np.ndarray
    """sum A T, [K, H, W, C]."""
    st: np.ndarray
    """sum S T, [K, H, W, C]."""
    tt: np.ndarray
    """sum T^2, [H, W, C]."""
    qq: np.ndarray
    """sum Q^2, [K], Q = sum w^2 over the windows of one field."""
    qs: np.ndarray
    """sum Q S, [K]."""
    qn: np.ndarray
    """sum Q n, [K], n the windows of one field that count."""
    sn: np.ndarray
    """sum S n, [K]."""
    nn: np.ndarray
    """sum n^2, a number."""


@dataclass(frozen=True)
class Moments(_Sums):
    """Sums over noise samples x with weights w, of each of K responses and of all samples. Moments add up.

    Counts are exact integers; sums are float64 (of float32 sums a batch).
    """

    num_samples: int
    """N, all samples."""
    num_draws: int
    """Independent draws of noise: N, or the number of fields whose windows are the samples."""
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
    draw_square_sum: np.ndarray
    """sum over draws of (sum of w in the draw)^2, [K]: for the error of shares where samples overlap."""
    sum: np.ndarray
    """sum w x, [K, H, W, C]."""
    square_sum: np.ndarray
    """sum w x^2, [K, H, W, C]."""
    field_sums: FieldSums | None = None
    """None where samples are independent."""
