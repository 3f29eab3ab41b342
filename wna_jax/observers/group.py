"""Several observers: a map of each, the group's map with its error across observers, and how far they agree."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wna_jax import statistics
from wna_jax.analysis import Analysis
from wna_jax.maps import ClassificationImages, choice_images
from wna_jax.runs.errors import InputError

LEAST = 0.2
"""The reliability below which a correlation that is corrected for noise says nothing."""
FEWEST_ACROSS = 3
"""Observers from which on the group's error is that across observers; of two the spread says next to nothing."""


class Group(NamedTuple):
    """P observers together: the analysis of each, the map of all and its tests, their agreement, infoVal of each."""

    analyses: Mapping[str, Analysis]
    map: ClassificationImages
    findings: statistics.Findings
    agreement: "Agreement"
    info_val: Mapping[str, float | None]

    @property
    def with_a_map(self) -> int:
        """How many of them have a map: who gave one answer alone has none."""
        return sum(bool(each.maps["choice"].images.count()) for each in self.analyses.values())


def analyse_group(analyses: Mapping[str, Analysis], *, permutations: int = 999, seed: int = 0) -> Group:
    """Puts observers together, each by name with what `analyse_trials` found: `group_map`, its tests, `agreement`.

    All tests of `statistics.findings` are of the group's map. infoVal is that of each observer's own map.

    Raises:
        InputError: no observers, or maps of several noises.
    """
    whole = group_map(analyses)
    own = {who: each.findings("choice", permutations=19, seed=seed).info_val for who, each in analyses.items()}
    info = {who: None if of is None or of[0] is np.ma.masked else float(of[0]) for who, of in own.items()}
    found = statistics.findings(whole, permutations=permutations, seed=seed)
    return Group(dict(analyses), whole, found, agreement(analyses), info)


def group_map(analyses: Mapping[str, Analysis]) -> ClassificationImages:
    """The mean map of P observers, each of `analyse_trials`, as one map [1, H, W, C] that all tests take.

    From three observers on, its standard error is that across observers, sd / sqrt(P), pixel by pixel, with P - 1
    degrees of freedom: a t test at each pixel, of what holds for observers like these. Of two it is the map of all
    their trials, with the error that these have, and a test of these two alone; of one it is the observer's own.
    Observers without a map (who gave one answer alone) do not count; without any the map is masked.

    Common mistakes: reading a few observers' map of all trials as that of people in general; one of them can make it.

    Raises:
        InputError: no observers, or maps of several sizes or units.
    """
    some = _checked(analyses)
    own = [each.maps["choice"] for each in some.values()]
    maps = np.ma.concatenate([each.images for each in own])
    present = [i for i, image in enumerate(maps) if image.count()]
    if len(present) < FEWEST_ACROSS:
        chosen = [list(some.values())[i] for i in present] or list(some.values())[:1]
        moments = chosen[0].moments["choice"]
        for each in chosen[1:]:
            moments = moments + each.moments["choice"]
        return choice_images(moments, chosen[0].noise)
    values, people = maps[present], len(present)
    error = values.std(axis=0, ddof=1) / np.sqrt(people)
    return ClassificationImages(
        values.mean(axis=0)[None],
        np.ma.masked_equal(error, 0)[None],
        np.array([sum(own[i].count[0] for i in present)]),
        np.array([np.mean([own[i].share[0] for i in present])]),
        np.array([people - 1]),
        own[0].independent,
        own[0].noise,
    )


class Agreement(NamedTuple):
    """How far P observers agree; masked or None where it is unknown.

    `reliability` [P] is the split-half reliability of each observer's map; `correlation` [P] that of each map with the
    mean map of the others, from different halves of the stimuli; `corrected` [P] the same without the noise of either;
    `icc` is over the pixels of all maps.
    """

    reliability: np.ma.MaskedArray
    correlation: np.ma.MaskedArray
    corrected: np.ma.MaskedArray
    icc: statistics.IntraclassCorrelation | None


def agreement(analyses: Mapping[str, Analysis]) -> Agreement:
    """Leave-one-out agreement of observers, each of `analyse_trials`, and the intraclass correlation of their maps.

    Each map of one half of the stimuli is correlated with the mean map of all others of the other half, in both ways,
    and the two are averaged. So observers who saw the same stimuli are not made alike by the noise in these, which the
    correlation of whole maps would count as agreement. Correlations are of half the trials; divided by the root of both
    reliabilities (of the halves' maps; Spearman 1904) they are those of maps without noise: 1 means one template.

    Reading the result: below a reliability of .2 of either whole map the corrected one is masked, as it is mostly
    chance. The ICC (`statistics.intraclass_correlation`) is of whole maps; where stimuli are shared it is too large.

    Raises:
        InputError: no observers, or maps of several sizes.
    """
    some = list(_checked(analyses).values())
    people = len(some)
    halves = [np.ma.concatenate([_half(each, half) for each in some]) for half in ("first", "second")]
    own = statistics.map_correlation(*halves)
    crossed, corrected = np.ma.masked_all(people), np.ma.masked_all(people)
    for i in range(people if people > 1 else 0):
        first, second = (half[np.arange(people) != i].mean(axis=0)[None] for half in halves)
        both = [
            statistics.map_correlation(halves[0][i : i + 1], second),
            statistics.map_correlation(halves[1][i : i + 1], first),
        ]
        crossed[i : i + 1] = (both[0] + both[1]) / 2
        reliable = (_enough(each) for each in (own[i : i + 1], statistics.map_correlation(first, second)))
        corrected[i : i + 1] = statistics.disattenuate(crossed[i : i + 1], *reliable)
    whole = np.ma.concatenate([each.reliability["choice"].reliability for each in some])
    maps = np.ma.concatenate([each.maps["choice"].images for each in some])
    flat = maps.reshape(people, -1)[maps.count(axis=(1, 2, 3)) > 0]
    ratings = flat[:, flat.count(axis=0) == len(flat)].filled().T
    icc = statistics.intraclass_correlation(ratings) if len(flat) > 1 else None
    return Agreement(whole, crossed, corrected, icc)


def _enough(half_correlation: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """The reliability of half the trials, masked where that of all of them (Spearman-Brown) is below `LEAST`."""
    return np.ma.masked_less(half_correlation, LEAST / (2 - LEAST))


def _half(analysis: Analysis, half: str) -> np.ma.MaskedArray:
    """The map of one half of the stimuli, [1, H, W, C]; masked where it has none of the trials."""
    moments = getattr(analysis, half)["choice"]
    if not moments.num_samples:
        return np.ma.masked_all((1, *analysis.noise.shape))
    return choice_images(moments, analysis.noise).images


def _checked(analyses: Mapping[str, Analysis]) -> dict[str, Analysis]:
    if not analyses:
        raise InputError("there are no observers: expected one analysis each")
    (name, first), *_ = analyses.items()
    for other, each in analyses.items():
        if each.noise.shape != first.noise.shape or each.noise.name != first.noise.name:
            given = f"{name} saw {first.noise.name} noise {first.noise.shape}, {other} {each.noise.name}"
            raise InputError(f"{given} noise {each.noise.shape}: expected one noise for all")
    return dict(analyses)
