"""Do the tests of people's maps reject as often as they say? Counted over runs with observers who see nothing.

A rate of .05 over 400 runs has a standard error of .0109; the margins are three of these, with fixed seeds.
"""

import functools
from collections.abc import Callable

import numpy as np
import pytest

from wna_jax import Analysis, noise, observers, statistics
from wna_jax.maps import ClassificationImages
from wna_jax.observers import Trials
from wna_jax.observers.stimuli import difference

RUNS, RATE = 400, 0.05
MARGIN = 3 * np.sqrt(RATE * (1 - RATE) / RUNS)
WHITE = noise.uniform((8, 8, 1))
TRIALS = 240
OF_NEIGHBOURS: dict[str, Callable] = {
    "clusters": functools.partial(statistics.cluster_mass, threshold=2.3),
    "TFCE": statistics.tfce,
}

pytestmark = pytest.mark.slow


def blind(run: int, design: str, shared: bool, people: int) -> tuple[dict[str, Trials], noise.Noise]:
    """Observers who answer by a coin of their own bias; of the stimuli each has others, or all the same."""
    random = np.random.default_rng(run)
    found, x = {}, random.random((2, TRIALS, 8, 8, 1))
    for i in range(people):
        x = x if shared else random.random((2, TRIALS, 8, 8, 1))
        first = random.random(TRIALS) < random.uniform(0.3, 0.7)
        if design == "2afc":
            found[f"{i}"] = Trials(x[0], np.where(first, 1, -1), x[1])
        elif design == "signal":  # which is seen, and nothing else
            kinds = random.integers(0, 2, TRIALS)
            seen = x[0] + kinds[:, None, None, None] * np.eye(8)[..., None]
            found[f"{i}"] = Trials(seen, first ^ (kinds == 1), classes=kinds)
        else:
            found[f"{i}"] = Trials(x[0], first)
    return found, difference(WHITE) if design == "2afc" else WHITE


def analysed(people: dict[str, Trials], shown: noise.Noise) -> dict[str, Analysis]:
    return {
        who: observers.analyse_trials(own.stimuli, own.responses, second=own.second, classes=own.classes, noise=shown)
        for who, own in people.items()
    }


def group_map(people: dict[str, Trials], shown: noise.Noise) -> ClassificationImages:
    return observers.group_map(analysed(people, shown), observers.shared_noise(list(people.values())))


@functools.cache
def critical(test: str) -> float:
    largest = statistics.permutation_max(list(statistics.null_z_maps(WHITE.shape, 999)), OF_NEIGHBOURS[test])
    return float(np.sort(largest, axis=None)[-50])


def rates(maps: list[ClassificationImages]) -> tuple[dict[str, float], np.ma.MaskedArray]:
    z = np.ma.concatenate([statistics.z_map(each) for each in maps])
    rejected = {"pixels": statistics.significant_pixels(z).any(axis=(1, 2, 3))}
    for test, statistic in OF_NEIGHBOURS.items():
        rejected[test] = np.abs(statistic(z)).max(axis=(1, 2, 3)) > critical(test)
    rejected["infoVal"] = statistics.info_val(z) > 1.6449  # one-sided .05, if it is normal
    return {test: float(np.mean(of)) for test, of in rejected.items()}, z


@pytest.mark.parametrize("design", ["yes_no", "2afc", "signal"])
def test_maps_of_one_blind_observer_are_significant_in_05_of_runs(design: str) -> None:
    maps = [analysed(*blind(run, design, False, 1))["0"].maps["choice"] for run in range(RUNS)]
    found, z = rates(maps)
    assert z.std() == pytest.approx(1, abs=3 / np.sqrt(2 * z.size))
    assert all(abs(rate - RATE) < MARGIN for rate in found.values()), found


@pytest.mark.parametrize(("design", "shared"), [("yes_no", False), ("yes_no", True), ("2afc", True), ("signal", False)])
def test_maps_of_groups_of_blind_observers_are_significant_in_05_of_runs(design: str, shared: bool) -> None:
    found, z = rates([group_map(*blind(run, design, shared, 8)) for run in range(RUNS)])
    assert z.std() == pytest.approx(0.99, abs=0.02)  # a shared part of the error below 0 is taken as 0
    assert all(abs(rate - RATE) < MARGIN for rate in found.values()), found


def test_maps_of_few_blind_observers_are_significant_in_no_more_than_05_of_runs() -> None:
    found, _ = rates([group_map(*blind(run, "yes_no", True, 3)) for run in range(RUNS)])
    assert all(rate < RATE + MARGIN for rate in found.values()), found


@pytest.mark.parametrize("people", [2, 4, 10])
def test_pixels_that_nobody_uses_are_significant_in_05_of_runs_though_all_see_the_same_stimuli(people: int) -> None:
    template = np.zeros((8, 8, 1))
    template[:, :4] = np.random.default_rng(0).standard_normal((8, 4, 1))
    maps = []
    for run in range(RUNS):
        random, x = np.random.default_rng(run), np.random.default_rng(run + 2**20).random((TRIALS, 8, 8, 1))
        see = x.reshape(TRIALS, -1) @ (template + 0.3 * (template != 0) * random.standard_normal((8, 8, 1))).ravel()
        see = (see - see.mean()) / see.std()
        trials = {f"{i}": Trials(x, see + 0.7 * random.standard_normal(TRIALS) > 0) for i in range(people)}
        maps.append(group_map(trials, WHITE))
    z = np.ma.concatenate([statistics.z_map(each) for each in maps])
    unused = z[:, :, 4:]
    assert unused.std() == pytest.approx(1, abs=0.02)
    assert abs(statistics.significant_pixels(unused).any(axis=(1, 2, 3)).mean() - RATE) < MARGIN


def test_agreement_of_blind_observers_is_0_on_average_even_with_the_same_stimuli() -> None:
    people = (analysed(*blind(run, "yes_no", True, 4)) for run in range(100))
    correlations = np.ma.stack([observers.agreement(own).correlation for own in people])
    assert correlations.mean() == pytest.approx(0, abs=3 / np.sqrt(64 * 100))


def test_stimuli_of_unknown_noise_are_tested_at_05_against_themselves() -> None:
    rejected: dict[str, int] = {}
    for run in range(RUNS):
        random = np.random.default_rng(run)
        x = random.normal(0.5, 0.15, (TRIALS, 7, 7))
        x = (x[:, 1:, 1:] + x[:, :-1, 1:] + x[:, 1:, :-1] + x[:, :-1, :-1])[..., None]  # neighbours are alike
        found = observers.analyse_trials(x, random.integers(0, 2, TRIALS)).findings("choice", permutations=39, seed=run)
        assert found.info_val is not None
        results = {test: of is not None and of.any() for test, of in found.significant.items()}
        for test, significant in (results | {"infoVal": found.info_val[0] > 1.96}).items():
            rejected[test] = rejected.get(test, 0) + int(significant)
    info = rejected.pop("infoVal") / RUNS
    assert info < 0.025 + 3 * np.sqrt(0.025 * 0.975 / RUNS)
    assert all(abs(count / RUNS - RATE) < MARGIN for count in rejected.values()), rejected
