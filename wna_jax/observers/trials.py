"""From the trials of one observer, a person or a network, to moments: the same sums as those of a network in noise.

| task | stimuli of a trial | response | the map (`maps.choice_images`) |
| --- | --- | --- | --- |
| yes/no | one | 1 yes, 0 no | mean noise of yes minus that of no |
| two-interval forced choice | two (`second=`) | 1 the first, -1 the second | mean of chosen minus that of others |
| noise added or subtracted | one noise | 1 added, -1 subtracted | mean of response x noise |

In trials of several kinds (a signal or none, base images), `classes=` says which kind each is of. Responses then count
as their distance from the mean response of their kind, so that what a kind's stimuli have in common, the signal or the
base, cancels in the map exactly: it is the mean of the maps of all kinds, weighted by N_S p_S (1 - p_S), their inverse
variances. Of signal and noise trials that is [hits - misses] and [false alarms - correct rejections] together (Ahumada
2002, Journal of Vision 2(1):8; the weights: Murray, Bennett & Sekuler 2002, Journal of Vision 2(1):6).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from wna_jax.analysis import Analysis
from wna_jax.correlation import Moments
from wna_jax.maps import check_deviation
from wna_jax.noise import Noise
from wna_jax.observers.stimuli import Drawn, Source, Stimuli, half_of, noise_of, size_of, source_of
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report, silent


class Trials(NamedTuple):
    """The trials of one observer: the arguments of `moments_from_trials`, and the rows of a table where they stand."""

    stimuli: Any
    responses: Any
    second: Any = None
    classes: Any = None
    rows: Any = None

    def of_kind(self, kind: Any) -> "Trials":
        """Those of one of the classes, as a task of their own."""
        own = np.flatnonzero(np.asarray(self.classes) == kind)
        stimuli, second = (None if each is None else source_of(each).some(own) for each in (self.stimuli, self.second))
        rows = None if self.rows is None else np.asarray(self.rows)[own]
        return Trials(stimuli, np.asarray(self.responses)[own], second, rows=rows)


class Halves(NamedTuple):
    """The moments of two halves of the stimuli; trials with the same stimulus, or pair, are in the same half."""

    first: Moments
    second: Moments


def moments_from_trials(
    stimuli: Stimuli,
    responses: Any,
    *,
    second: Stimuli | None = None,
    classes: Any = None,
    report: Report = silent,
) -> Moments:
    """The sums over trials of which maps, errors and tests are made: `maps.choice_images(moments, noise_of(stimuli))`.

    Stimuli are read a batch at a time, and never held: a million trials take as much memory as a thousand.

    Args:
        stimuli: one per trial: `Drawn` noise, an array [N, H, W, C], or paths of image files.
        responses: [N], of two values: 1 and 0 (or bool), or 1 and -1; 1 and -1 where there is a second stimulus.
        second: the second stimulus of each trial of a forced choice.
        classes: [N], the kind of each trial, any values: a signal or none, the interval that held it, a base image.
        report: progress, in trials.

    Returns:
        Moments of one response, of which `count` is the number of trials answered 1. The samples are the stimuli, or
        the differences of first and second; the weights are the responses, or with `classes` their distances from
        the mean of their class (in each half of the trials).

    Raises:
        InputError: numbers of trials that differ, responses of other values, images of several sizes, or two files
            that hold the same image.
    """
    halves = moments_in_halves(stimuli, responses, second=second, classes=classes, report=report)
    return halves.first + halves.second


def analyse_trials(
    stimuli: Stimuli,
    responses: Any,
    *,
    second: Stimuli | None = None,
    classes: Any = None,
    noise: Noise | None = None,
    report: Report = silent,
) -> Analysis:
    """What the trials of one observer say: map, errors, tests, reliability, infoVal under the response name "choice".

    The arguments are those of `moments_from_trials`. The noise is that of `noise_of`, unless it is given: of files that
    show a known noise, say so, and tests need no estimates.

    Raises:
        InputError: as `moments_from_trials`; or stimuli of another noise, such as that of one stimulus for two.

    Common mistakes: a contrast with a network's map of the same seed, whose noise is the same: its error is not known.
    """
    known = noise_of(stimuli, second, classes, report) if noise is None else noise
    halves = moments_in_halves(stimuli, responses, second=second, classes=classes, report=report)
    if classes is None:  # what differs between kinds of trial, such as a signal, varies too
        check_deviation(halves.first + halves.second, known)
    return Analysis({"choice": halves.first}, {"choice": halves.second}, known, ("choice",), name="an observer")


def moments_in_halves(
    stimuli: Stimuli,
    responses: Any,
    *,
    second: Stimuli | None = None,
    classes: Any = None,
    report: Report = silent,
) -> Halves:
    """`moments_from_trials` in two halves, to tell how reliable a map is.

    Halves are decided by the stimulus alone, or by the pair in whatever order, for all observers alike: maps of two
    observers from different halves have no noise in common, even where both have seen the same stimuli.
    """
    one, two, w, half, weights = _weighed(Trials(stimuli, responses, second, classes))
    sums = np.zeros((2, 4, *one.shape))  # of each half: x, w x, x^2, w x^2
    sources = [each for each in (one, two) if each]
    hashes = [np.zeros(one.count, np.int64) for each in sources if each.names]
    for trials in one.batches():
        shown = [each.take(trials) for each in sources]
        for own, images in zip(hashes, shown, strict=False):
            own[trials] = [hash(image.tobytes()) for image in images]
        x = (shown[0] if two is None else shown[0] - shown[1]).astype(np.float64).reshape(len(trials), -1)
        if not np.isfinite(x).all():
            raise InputError(f"the stimuli of trials {trials[0]} to {trials[-1]} hold NaN or infinite pixels")
        for h in range(2):
            own = half[trials] == h
            factors = np.stack([np.ones(own.sum()), weights[trials][own]])
            sums[h] += np.concatenate([factors @ x[own], factors @ np.square(x[own])]).reshape(4, *one.shape)
        report(Progress("trials", int(trials[-1]) + 1, one.count, "trials"))
    _check_distinct([name for each in sources for name in each.names or ()], hashes)
    return Halves(*(_moments(sums[h], weights[half == h], w[half == h]) for h in range(2)))


def _moments(sums: np.ndarray, weights: np.ndarray, responses: np.ndarray) -> Moments:
    total, weighted, squares, weighted_squares = sums
    power = np.array([(weights**2).sum()])
    return Moments(
        num_samples=len(weights),
        num_draws=len(weights),
        total_sum=total,
        total_square_sum=squares,
        count=np.array([(responses > 0).sum()]),
        weight_sum=np.array([weights.sum()]),
        weight_square_sum=power,
        draw_square_sum=power,
        sum=weighted[None],
        square_sum=weighted_squares[None],
    )


def shared_noise(observers: Sequence[Trials]) -> np.ndarray:
    """Covariance [P, P] of P observers' maps at a pixel that none of them uses, in units of the noise's variance.

    sum u_j u_k over the stimuli that both saw, u = (w - p) / sum (w - p)^2: what it is given their responses, as their
    noise was drawn independently of these. Not 0 where two observers saw the same stimuli and answered alike, whatever
    made them. An observer who gave one answer alone has 0. Of a forced choice each of the two stimuli counts, with
    half the variance of their difference.
    """
    ids, values, people = [], [], []
    for i, trials in enumerate(observers):
        one, two, _, _, weights = _weighed(trials)
        centred = weights - weights.mean()
        u = centred / (np.square(centred).sum() or 1.0)
        for source, sign in ((one, 1), (two, -1)):
            if source:
                ids.append(np.concatenate([source.identities(own) for own in source.batches()]))
                values.append(sign * u * (1 if two is None else np.sqrt(0.5)))
                people.append(np.full(len(u), i))
    _, column = np.unique(np.concatenate(ids), return_inverse=True)
    of = sparse.csr_array((np.concatenate(values), (np.concatenate(people), column)))
    return (of @ of.T).toarray()


def _weighed(trials: Trials) -> tuple[Source, Source | None, np.ndarray, np.ndarray, np.ndarray]:
    """The sources of the stimuli, and of each trial the response, the half, and the weight."""
    one, two = source_of(trials.stimuli), None if trials.second is None else source_of(trials.second)
    w = _checked(trials.responses, one, two)
    identities = [np.concatenate([each.identities(own) for own in each.batches()]) for each in (one, two) if each]
    _check_once([each for each in (trials.stimuli, trials.second) if each is not None], identities)
    half = half_of(np.minimum.reduce(identities))
    return one, two, w, half, _centred(w, half, trials.classes)


def _check_once(stimuli: Sequence[Stimuli], identities: Sequence[np.ndarray]) -> None:
    """Raises an InputError if a draw or file is shown twice: its pixels count twice, and the error would not know it.

    Images of an array may be equal by chance, as those of few pixels are.
    """
    every = np.concatenate(identities)
    values, counts = np.unique(every, return_counts=True)
    if len(values) == len(every) or isinstance(stimuli[0], np.ndarray):
        return
    again = np.flatnonzero(every == values[counts > 1][0])
    if isinstance(stimuli[0], Drawn):
        number = np.concatenate([each.numbers for each in stimuli if isinstance(each, Drawn)])[again[0]]
        raise InputError(f"draw {number} is in {len(again)} trials: expected each stimulus once")
    if isinstance(stimuli[0], Source):
        one, two = again[:2] % stimuli[0].count
        raise InputError(f"trials {one} and {two} show the same stimulus: expected another in each trial")
    names = [str(path) for each in stimuli if not isinstance(each, Drawn | Source) for path in each]
    given = sorted({names[i] for i in again[:2]})
    what = f"{given[0]} is shown twice" if len(given) == 1 else f"{given[0]} and {given[1]} hold the same image"
    raise InputError(f"{what}: expected a stimulus of its own in each trial")


def _checked(responses: Any, one: Source, two: Source | None) -> np.ndarray:
    """The responses as float64 [N]."""
    w = np.asarray(responses, np.float64)
    if two is not None and (two.count, two.shape) != (one.count, one.shape):
        given = f"{one.count:,} first stimuli of {size_of(one.shape)} and {two.count:,} second of {size_of(two.shape)}"
        raise InputError(f"{given}: expected as many of the same size")
    if w.shape != (one.count,):
        raise InputError(f"responses of shape {w.shape} to {one.count:,} trials: expected one per trial")
    expected = [{-1.0, 1.0}] if two is not None else [{0.0, 1.0}, {-1.0, 1.0}]
    values = set(np.unique(w).tolist())
    if not any(values <= known for known in expected):
        said = ", ".join(f"{value:g}" for value in sorted(values)[:4])
        wanted = "1 (first) and -1 (second)" if two is not None else "1 and 0 (yes, no), or 1 and -1"
        raise InputError(f"responses have the values {said}: expected {wanted}")
    return w


def _centred(w: np.ndarray, half: np.ndarray, classes: Any) -> np.ndarray:
    """The responses less the mean of their class in their half; without classes as they are."""
    if classes is None:
        return w
    if np.shape(classes) != w.shape:
        raise InputError(f"classes of shape {np.shape(classes)} for {len(w):,} trials: expected one per trial")
    _, kind = np.unique(np.asarray(classes), return_inverse=True)
    kind = 2 * kind + half
    return w - (np.bincount(kind, w) / np.maximum(np.bincount(kind), 1))[kind]


def _check_distinct(names: list[str], hashes: list[np.ndarray]) -> None:
    """Raises an InputError if two files hold the same image: a slip in copying them makes maps too sure."""
    if not names or len(set(names)) == len(np.unique(hashes)):
        return
    of_image: dict[int, str] = {}
    for name, own in zip(names, np.concatenate(hashes).tolist(), strict=True):
        if of_image.setdefault(own, name) != name:
            raise InputError(f"{of_image[own]} and {name} hold the same image: expected a stimulus of its own in each")
