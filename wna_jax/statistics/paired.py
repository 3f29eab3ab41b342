"""Settings compared by networks that share their training seeds, and several such tests at once."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from wna_jax.runs.errors import InputError
from wna_jax.statistics.reliability import seed_mean


class PairedDifference(NamedTuple):
    """The mean difference of n pairs, its interval, and the two-sided p of no difference."""

    mean: float
    low: float
    high: float
    p: float


def paired_difference(values: ArrayLike, reference: ArrayLike, confidence: float = 0.95) -> PairedDifference:
    """Paired t test of n values against n of a reference, pair i being of one training seed.

    With d_i = values_i - reference_i: mean d ± t_{n-1} sd(d) / sqrt(n), and p of t = sqrt(n) mean d / sd(d) with n - 1
    degrees of freedom. The differences are taken to be normally distributed. An exact test by signs needs no such
    assumption, but its smallest p is 2^(1 - n), .0625 for five seeds: it could never find anything at .05.

    Common mistakes: pairs that share nothing; classes or images of one network counted as pairs, which are not
    independent; several settings against one reference without `holm`.

    Raises:
        InputError: values that are no pairs, fewer than two of them, or an invalid confidence level.
    """
    a, b = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(
            f"values of shapes {a.shape} and {b.shape}: expected finite numbers, as many of one as of other"
        )
    of = seed_mean((a - b).tolist(), confidence)
    error = (a - b).std(ddof=1) / np.sqrt(len(a))
    if error == 0:
        return PairedDifference(of.mean, of.low, of.high, float(of.mean == 0))
    return PairedDifference(of.mean, of.low, of.high, float(2 * special.stdtr(len(a) - 1, -abs(of.mean) / error)))


def holm(p_values: ArrayLike) -> np.ndarray:
    """p values [m] adjusted for m tests (Holm 1979, Scandinavian Journal of Statistics 6): reject where at most alpha.

    The i-th smallest is max over j <= i of (m - j + 1) p_(j), and at most 1. The probability of any false rejection is
    then at most alpha, however the tests depend on each other.

    Raises:
        InputError: a p value outside 0 to 1.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p values are {p_values!r}: expected a list of numbers from 0 to 1")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]), 1)
    return adjusted
