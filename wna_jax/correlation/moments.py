"""Additive sums over noise samples, from which maps, their errors and all tests are made."""

import math
import operator
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Float, Int

from wna_jax.correlation.origin import Origin
from wna_jax.runs.errors import InputError


class _Sums:
    """Dataclasses of sums, which are pytrees: they add up leaf by leaf."""

    SHARED: ClassVar[tuple[str, ...]]
    """The fields that belong to all samples; the others have one entry for each response."""

    def __add__(self, other: Self) -> Self:
        """The sums over both sets of samples together."""
        kinds: set[Any] = {jax.tree.structure(self), jax.tree.structure(other)}
        if len(kinds) > 1:
            raise InputError("moments of independent samples and of windows of fields do not add up: use one sampling")
        return jax.tree.map(operator.add, self, other)

    def of_responses(self, own: slice | np.ndarray) -> Self:
        """The sums of some of the responses."""
        return replace(self, **{name: getattr(self, name)[own] for name in self._each()})  # type: ignore[type-var]

    def put(self, rows: np.ndarray, part: Self) -> None:
        """Replaces the sums of some responses, in place."""
        for name in self._each():
            getattr(self, name)[rows] = getattr(part, name)

    def _each(self) -> list[str]:
        return [name for name in self.__dataclass_fields__ if name not in self.SHARED]  # type: ignore[attr-defined]


@register_dataclass
@dataclass(frozen=True, eq=False)
class FieldSums(_Sums):
    """Sums over fields of products of each field's own sums, for errors where the samples in a field overlap.

    These are, over the windows of one field, A = sum w (x - mean of the noise), T = sum (x - mean of the noise),
    S = sum w, Q = sum w^2, and n, the windows that count.
    """

    SHARED = ("tt", "tn", "nn")

    aa: Float[np.ndarray, "K H W C"]
    """sum A^2."""
    at: Float[np.ndarray, "K H W C"]
    """sum A T."""
    aq: Float[np.ndarray, "K H W C"]
    """sum A Q."""
    a_s: Float[np.ndarray, "K H W C"]
    """sum A S."""
    an: Float[np.ndarray, "K H W C"]
    """sum A n."""
    tt: Float[np.ndarray, "H W C"]
    """sum T^2."""
    tq: Float[np.ndarray, "K H W C"]
    """sum T Q."""
    st: Float[np.ndarray, "K H W C"]
    """sum S T."""
    tn: Float[np.ndarray, "H W C"]
    """sum T n."""
    qq: Float[np.ndarray, " K"]
    """sum Q^2."""
    qs: Float[np.ndarray, " K"]
    """sum Q S."""
    qn: Float[np.ndarray, " K"]
    """sum Q n."""
    sn: Float[np.ndarray, " K"]
    """sum S n."""
    nn: Float[np.ndarray, ""]
    """sum n^2."""

    def about(self, reference_k: np.ndarray, ss_k: np.ndarray) -> Self:
        """The sums of the weights w - r; `ss_k` is sum S^2. A becomes A - r T, S - r n, and Q - 2 r S + r^2 n."""
        r, r_khwc = reference_k, over_pixels(reference_k)
        return replace(
            self,
            aa=self.aa - 2 * r_khwc * self.at + r_khwc**2 * self.tt,
            at=self.at - r_khwc * self.tt,
            aq=self.aq - r_khwc * (2 * self.a_s + self.tq) + r_khwc**2 * (self.an + 2 * self.st) - r_khwc**3 * self.tn,
            a_s=self.a_s - r_khwc * (self.an + self.st) + r_khwc**2 * self.tn,
            an=self.an - r_khwc * self.tn,
            tq=self.tq - 2 * r_khwc * self.st + r_khwc**2 * self.tn,
            st=self.st - r_khwc * self.tn,
            qq=self.qq + 4 * r**2 * ss_k + r**4 * self.nn - 4 * r * self.qs + 2 * r**2 * self.qn - 4 * r**3 * self.sn,
            qs=self.qs - r * (self.qn + 2 * ss_k) + 3 * r**2 * self.sn - r**3 * self.nn,
            qn=self.qn - 2 * r * self.sn + r**2 * self.nn,
            sn=self.sn - r * self.nn,
        )


@dataclass(frozen=True, eq=False)
class Moments(_Sums):
    """Sums over noise samples x with weights w, of each of K responses and of all samples.

    Moments are a pytree of sums: those of two sets of samples add up to those of both. One type serves a batch, a
    device, a resumed run and half of a run. Counts are exact integers; sums are float64, of float32 sums per batch.
    Their `origin` is no part of the pytree: what comes out of `jax.tree.map` or a compiled program has none.
    """

    SHARED = ("num_samples", "num_draws", "total_sum", "total_square_sum", "field_sums", "origin")

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
    origin: Origin | None = None
    """Of which samples, noise and response they are; None if they were not made by the loop."""

    def __add__(self, other: Self) -> Self:
        """The moments of both sets of samples together.

        Raises:
            InputError: they are of the same samples, of two noises, responses or kinds of sampling.
        """
        origin = self.origin + other.origin if self.origin and other.origin else None
        return replace(super().__add__(other), origin=origin)

    def __repr__(self) -> str:
        """One line; the sums are its attributes."""
        count, (num, *pixels) = self.num_samples, np.shape(self.sum)
        text = f"{count:,}" if isinstance(count, int | np.integer) else str(count)
        of = f"; {self.origin}" if self.origin else ""
        return f"<Moments of {text} samples: {num} responses, {'x'.join(map(str, pixels))} pixels{of}>"

    def of_responses(self, own: slice | np.ndarray) -> Self:
        """The moments of some of the responses, with the same samples."""
        chosen = super().of_responses(own)
        return replace(chosen, field_sums=self.field_sums and self.field_sums.of_responses(own))

    def put(self, rows: np.ndarray, part: Self) -> None:
        """Replaces the moments of some responses, in place."""
        super().put(rows, part)
        if self.field_sums and part.field_sums:
            self.field_sums.put(rows, part.field_sums)

    def about(self, reference_k: np.ndarray) -> Self:
        """The moments of the weights w - r, with a reference r for each response; `count` stays that of w.

        About the mean weights p = sum w / N, the sums are those of a covariance: sum (w - p) x, sum (w - p)^2.
        """
        r, r_khwc, sums = reference_k, over_pixels(reference_k), self.field_sums
        sn, nn = (self.weight_sum, self.num_samples) if sums is None else (sums.sn, sums.nn)
        return replace(
            self,
            weight_sum=self.weight_sum - r * self.num_samples,
            weight_square_sum=self.weight_square_sum - 2 * r * self.weight_sum + r**2 * self.num_samples,
            draw_square_sum=self.draw_square_sum - 2 * r * sn + r**2 * nn,
            sum=self.sum - r_khwc * self.total_sum,
            square_sum=self.square_sum - r_khwc * self.total_square_sum,
            field_sums=sums and sums.about(r, self.draw_square_sum),
        )


register_dataclass(
    Moments,
    data_fields=[each.name for each in fields(Moments) if each.name != "origin"],
    meta_fields=[],
    drop_fields=["origin"],
)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Batch:
    """The sums of a batch as a device computes them, in float32 and int32: of the weights less a reference each.

    Those of the even and of the odd draws lie side by side.

    The reference is the smallest or the largest weight of the batch, where the mean is at least twice as near to it as
    to 0; else it is 0. In float32 a class with nearly all samples would leave nothing of what tells its map from that
    of all samples; about 1 its sums are those of the few other samples.

    They lie in two vectors: to fetch some 25 arrays one by one takes longer than to add them up.
    """

    floats: Any
    integers: Any
    layout: tuple[Any, tuple[tuple[tuple[int, ...], bool], ...]] = field(metadata={"static": True})
    """The structure, and the shape of each array with whether it is of integers."""

    @classmethod
    def of(cls, reference: jax.Array, centred: Moments) -> Self:
        """In a compiled program: references [K], and moments [2, ...] of the weights less these, of each half."""
        leaves, structure = jax.tree.flatten((reference, centred))
        whole = [jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in leaves]
        floats, integers = (
            jnp.concatenate([leaf.ravel() for leaf, own in zip(leaves, whole, strict=True) if own is kind])
            for kind in (False, True)
        )
        return cls(floats, integers, (structure, tuple(zip((leaf.shape for leaf in leaves), whole, strict=True))))

    @property
    def is_finite(self) -> bool:
        """No sum is NaN or infinite."""
        return bool(np.isfinite(self.floats).all())

    def halves(self) -> tuple[Moments, Moments]:
        """On the host: the sums of the weights themselves, in float64 where the references make a difference."""
        structure, leaves = self.layout
        num_responses = math.prod(leaves[0][0])
        rows = np.flatnonzero(self.floats[:num_responses])  # of decisions at most one; NaN is one, too
        own, rest = [], [self.floats, self.integers]
        if rows.size:
            rest = [self.floats.astype(np.float64), self.integers.copy()]
        for shape, whole in leaves:
            size = math.prod(shape)
            own.append(rest[whole][:size].reshape(shape))
            rest[whole] = rest[whole][size:]
        reference, both = jax.tree.unflatten(structure, own)
        even, odd = (jax.tree.map(lambda leaf, half=half: leaf[half], both) for half in (0, 1))
        if rows.size:
            for half in (even, odd):
                half.put(rows, half.of_responses(rows).about(-reference[rows]))
        return even, odd


def over_pixels(value_k: Any) -> Any:
    """[K] -> [K, 1, 1, 1], masked or not."""
    return value_k[:, None, None, None]
