"""Several observers: a map of each, the group's map with its error across observers, and how far they agree."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wna_jax import statistics
from wna_jax.analysis import Analysis
from wna_jax.maps import ClassificationImages, choice_images
from wna_jax.noise import Noise
from wna_jax.observers.trials import Trials, analyse_trials, shared_noise
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, in_parts, silent

LEAST = 0.2
"""The reliability below which a correlation that is corrected for noise says nothing."""
_FOR_INFO_VAL = 400
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


def analyse_group(
    trials: Mapping[str, Trials], noise: Noise, *, permutations: int = 199, seed: int = 0, report: Report = silent
) -> Group:
    """Analyses observers, by name, each as `analyse_trials` does, and puts them together.

    All tests of `statistics.findings` are of the group's map (`group_map`, with the noise that observers share taken
    into account); infoVal is that of each observer's own map. Trials and noise are those of `found_stimuli`.

    Raises:
        InputError: no observers, or what `analyse_trials` refuses.
    """
    analyses: dict[str, Analysis] = {}
    for (who, own), tell in in_parts(report, list(trials.items()), "trials"):
        options = {"second": own.second, "classes": own.classes, "noise": noise, "report": tell}
        analyses[who] = analyse_trials(own.stimuli, own.responses, **options)
    whole = group_map(analyses, shared_noise(list(trials.values())))
    z = np.ma.concatenate([each.z["choice"] for each in analyses.values()])
    nulls = None if noise.white else statistics.null_z_maps(noise.shape, _FOR_INFO_VAL, seed + 1, noise)
    values = statistics.info_val(z, nulls)
    info = {who: None if of is np.ma.masked else float(of) for who, of in zip(analyses, values, strict=True)}
    found = statistics.findings(whole, permutations=permutations, seed=seed)
    return Group(analyses, whole, found, agreement(analyses), info)


def group_map(analyses: Mapping[str, Analysis], shared: np.ndarray) -> ClassificationImages:
    """The mean map of P observers, each of `analyse_trials`, as one map [1, H, W, C] that all tests take.

    From three observers on, its error is that across observers and stimuli, pixel by pixel: variance S^2 / P + c s^2,
    with S^2 the variance across observers, s that of the noise, and c the mean of `shared_noise` over pairs of
    observers. Where no two saw the same stimuli, c is 0 and this is a t test at each pixel, of what holds for observers
    like these; its degrees of freedom are P - 1, more with c (Satterthwaite 1946). Where they saw the same, the errors
    of their maps are alike as far as they answered alike, which their spread does not show: a t test over observers
    then finds what is in these stimuli alone (the fallacy of fixed stimuli; Clark 1973, Journal of Verbal Learning and
    Verbal Behavior 12:335). Of one or two observers the error is s sqrt(mean of shared): a test of these alone.
    Observers without a map (who gave one answer alone) do not count; without any the map is masked.

    Common mistakes: reading two observers' map as that of people in general; one of them can make it.

    Raises:
        InputError: no observers, or maps of several sizes or noises.
    """
    some = list(_checked(analyses).values())
    own = [each.maps["choice"] for each in some]
    present = [i for i, each in enumerate(own) if each.images.count()]
    if not present:
        return own[0]
    maps, covariance, people = (
        np.ma.concatenate([own[i].images for i in present]),
        shared[np.ix_(present, present)],
        len(present),
    )
    variance = np.broadcast_to(some[0].noise.deviation, some[0].noise.shape) ** 2
    degrees = None
    if people < FEWEST_ACROSS:
        power = covariance.mean() * variance
    else:
        across = maps.var(axis=0, ddof=1) / people
        power = across + max(0.0, covariance[~np.eye(people, dtype=bool)].mean()) * variance
        degrees = np.array([(people - 1) * float(power.mean() / across.mean()) ** 2])
    return ClassificationImages(
        maps.mean(axis=0)[None],
        np.ma.sqrt(np.ma.masked_less_equal(np.ma.masked_array(power, maps[0].mask), 0))[None],
        np.array([sum(own[i].count[0] for i in present)]),
        np.array([np.mean([own[i].share[0] for i in present])]),
        degrees,
        own[0].independent,
        own[0].noise,
    )


def maps_by_kind(trials: Mapping[str, Trials], noise: Noise) -> dict[str, ClassificationImages]:
    """`group_map` of each kind of trials alone, by its name: of each signal, interval or base image.

    With signal and noise trials it is the mean noise of hits minus that of misses, and that of false alarms minus that
    of correct rejections (Ahumada 1996, Perception 25, ECVP supplement; 2002, Journal of Vision 2(1):8). The mean noise
    of one signal and one answer is (1 - p) times that map for yes, -p times it for no, p the share of yes: the same in
    standard errors. Maps that differ between kinds say that an observer is no linear template with a criterion, such as
    one who does not know where the signal is (which the map of signal trials shows).

    Trials and noise are those of `found_stimuli`. Participants without trials of a kind do not count there.
    """
    kinds = sorted({str(kind) for own in trials.values() if own.classes is not None for kind in np.unique(own.classes)})
    found = {}
    for kind in kinds:
        some = {who: own.of_kind(kind) for who, own in trials.items() if kind in np.unique(own.classes)}
        analyses = {
            who: analyse_trials(of.stimuli, of.responses, second=of.second, noise=noise) for who, of in some.items()
        }
        found[kind] = group_map(analyses, shared_noise(list(some.values())))
    return found


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
