"""Additive sums over noise samples, from which maps, their errors and all tests are made."""

import operator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Float, Int

from wna_jax.runs.errors import InputError


class _Sums:
    """Dataclasses of sums, which are pytrees: they add up leaf by leaf."""

    _SHARED: ClassVar[tuple[str, ...]]
    """The fields that belong to all samples; the others have one entry for each response."""

    def __add__(self, other: Self) -> Self:
        """The sums over both sets of samples together."""
        kinds: set[Any] = {jax.tree.structure(self), jax.tree.structure(other)}
        if len(kinds) > 1:
            raise InputError("moments of independent samples and of windows of fields do not add up: use one sampling")
        return jax.tree.map(operator.add, self, other)

    def of_responses(self, own: slice) -> Self:
        """The sums of some of the responses."""
        each = [name for name in self.__dataclass_fields__ if name not in self._SHARED]  # type: ignore[attr-defined]
        return replace(self, **{name: getattr(self, name)[own] for name in each})  # type: ignore[type-var]


@register_dataclass
@dataclass(frozen=True, eq=False)
class FieldSums(_Sums):
    """Sums over fields of products of each field's own sums, for errors where the samples in a field overlap.

    With A = sum w (x - mean of the noise), S = sum w and T = sum (x - mean of the noise), each over the windows of one
    field.
    """

    _SHARED = ("tt", "nn")

    aa: Float[np.ndarray, "K H W C"]
    """sum A^2."""
    a_s: Float[np.ndarray, "K H W C"]
    """sum A S."""
    at: Float[np.ndarray, "K H W C"]
    """sum A T."""
    st: Float[np.ndarray, "K H W C"]
    """sum S T."""
    tt: Float[np.ndarray, "H W C"]
    """sum T^2."""
    qq: Float[np.ndarray, " K"]
    """sum Q^2, Q = sum w^2 over the windows of one field."""
    qs: Float[np.ndarray, " K"]
    """sum Q S."""
    qn: Float[np.ndarray, " K"]
    """sum Q n, n the windows of one field that count."""
    sn: Float[np.ndarray, " K"]
    """sum S n."""
    nn: Float[np.ndarray, ""]
    """sum n^2."""


@register_dataclass
@dataclass(frozen=True, eq=False)
class Moments(_Sums):
    """Sums over noise samples x with weights w, of each of K responses and of all samples.

    Moments are a pytree of sums: those of two sets of samples add up to those of both. One type serves a batch, a
    device, a resumed run and half of a run. Counts are exact integers; sums are float64, of float32 sums per batch.
    """

    _SHARED = ("num_samples", "num_draws", "total_sum", "total_square_sum", "field_sums")

    num_samples: int
    """N, all samples."""
    num_draws: int
    """Independent draws of noise: N, or the number of fields whose windows are the samples."""
    total_sum: Float[np.ndarray, "H W C"]
    """sum x."""
    total_square_sum: Float[np.ndarray, "H W C"]
    """sum x^2."""
    count: Int[np.ndarray, " K"]
    """Samples whose weight is not 0: for decisions the number N_k of samples of class k."""
    weight_sum: Float[np.ndarray, " K"]
    """sum w."""
    weight_square_sum: Float[np.ndarray, " K"]
    """sum w^2."""
    draw_square_sum: Float[np.ndarray, " K"]
    """sum over draws of (sum of w in the draw)^2: for the error of shares where samples overlap."""
    sum: Float[np.ndarray, "K H W C"]
    """sum w x."""
    square_sum: Float[np.ndarray, "K H W C"]
    """sum w x^2."""
    field_sums: FieldSums | None = None
    """None where samples are independent."""

    def of_responses(self, own: slice) -> Self:
        """The moments of some of the responses, with the same samples."""
        chosen = super().of_responses(own)
        return replace(chosen, field_sums=self.field_sums and self.field_sums.of_responses(own))
