"""How far several observers agree on the same targets, such as participants on the pixels of their maps."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wna_jax.runs.errors import InputError


class IntraclassCorrelation(NamedTuple):
    """ICC(2,1) of one observer, ICC(2,k) of the mean of all k, both of absolute agreement; ICC(3,k) of consistency."""

    single: float
    average: float
    consistency: float


def intraclass_correlation(ratings: ArrayLike) -> IntraclassCorrelation:
    """The agreement of k observers on n targets, from ratings [n, k] (Shrout & Fleiss 1979, Psychological Bulletin 86).

    With the mean squares of targets B, of observers J and of the rest E: ICC(2,1) = (B - E) / (B + (k - 1) E +
    k (J - E) / n), ICC(2,k) = (B - E) / (B + (J - E) / n), ICC(3,k) = (B - E) / B. Observers are a random sample.

    Reading the result: ICC(2,k) is the reliability of the mean map, as an estimate of the map of all such observers.
    Common mistakes: maps of observers who were shown the same noise: their sampling errors are alike too, which counts
    as agreement (see `observers.agreement`).

    Raises:
        InputError: fewer than two observers or targets, NaN, or ratings that are all equal.
    """
    x = np.asarray(ratings, np.float64)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise InputError(f"ratings of shape {x.shape}: expected finite numbers [targets, observers], 2 or more of each")
    n, k = x.shape
    of_targets, of_observers = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    b = k * ((of_targets - x.mean()) ** 2).sum() / (n - 1)
    j = n * ((of_observers - x.mean()) ** 2).sum() / (k - 1)
    e = ((x - of_targets - of_observers + x.mean()) ** 2).sum() / (n - 1) / (k - 1)
    if b == 0:
        raise InputError("the ratings of all targets are equal: there is nothing to agree on")
    single = (b - e) / (b + (k - 1) * e + k * (j - e) / n)
    return IntraclassCorrelation(float(single), float((b - e) / (b + (j - e) / n)), float((b - e) / b))
