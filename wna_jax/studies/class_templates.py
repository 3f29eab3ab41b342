"""How much a network's maps agree with its classes, and whether training of another kind changes that.

A person's template of a class resembles the mean image of the class more than the maps of networks do. The agreement of
a map with a class is Pearson's correlation with the class's mean training image less that of all classes, without the
noise in the map. Regimes of training are compared by networks that share their training seeds.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from wna_jax import statistics
from wna_jax.data import Dataset
from wna_jax.runs.errors import InputError
from wna_jax.statistics import PairedDifference
from wna_jax.studies.ensembles import Agreement

LEAST = 0.2
"""The reliability of a map below which its corrected correlation is unknown."""


def class_differences(dataset: Dataset) -> Float[np.ndarray, "K H W C"]:
    """The mean training image of each class less the mean of all training images, in pixel intensity."""
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    return dataset.class_means - np.average(dataset.class_means, axis=0, weights=counts)


def with_classes(agreed: Agreement, differences: Float[np.ndarray, "K H W C"]) -> Float[np.ma.MaskedArray, "S K"]:
    """The correlation of each network's map of each class with the class's difference, corrected for the map's noise.

    r / sqrt(reliability of the map) (`statistics.disattenuate`); it can exceed 1 by chance. Masked where there is no
    map, or one with a reliability below .2.

    Reading the result: 1 means that the network's linear template in this noise is the class mean less the grand mean,
    up to a factor. A linear classifier that is best for the class has another template, unless pixels vary
    independently and alike within classes.
    Common mistakes: noise whose pixels depend on each other, such as gabor_pca: its maps look like the classes for any
    network, as they are seen through the noise's covariance.
    """
    reliable = np.ma.masked_less(agreed.reliability, LEAST)
    each = [statistics.map_correlation(own.images, differences) for own in agreed.maps]
    return statistics.disattenuate(np.ma.stack(each), reliable)


class Comparison(NamedTuple):
    """The agreement of R regimes with the classes: which classes count, and, by regime, the mean over these per seed.

    A class counts if all networks have a reliable map of it. `differences` are those from the first regime, and
    `adjusted` their p values after Holm, over the R - 1 others.
    """

    classes: Bool[np.ndarray, " K"]
    values: dict[str, Float[np.ndarray, " S"]]
    differences: dict[str, PairedDifference]
    adjusted: dict[str, float]


def compare(agreements: Mapping[str, Float[np.ma.MaskedArray, "S K"]]) -> Comparison | None:
    """Compares each regime with the first one, by the paired t test over training seeds; None if no class counts.

    `agreements` are those of `with_classes`, for the same seeds in the same order.

    Raises:
        InputError: fewer than two regimes.
    """
    if len(agreements) < 2:
        raise InputError(f"{len(agreements)} regimes of training: expected two or more to compare")
    classes = ~np.any([np.ma.getmaskarray(of).any(axis=0) for of in agreements.values()], axis=0)
    if not classes.any():
        return None
    values = {name: np.asarray(of[:, classes].mean(axis=1), np.float64) for name, of in agreements.items()}
    first, *others = values
    differences = {name: statistics.paired_difference(values[name], values[first]) for name in others}
    adjusted = statistics.holm([each.p for each in differences.values()])
    return Comparison(classes, values, differences, dict(zip(others, adjusted.tolist(), strict=True)))
