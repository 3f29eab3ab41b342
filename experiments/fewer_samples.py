"""How many samples does a map need, plain and with a smoothness prior?

Makes maps of few samples, several times with other noise, and compares them with a map of very many samples. Under the
smoothness prior a map is the most probable one if maps are as smooth and local as these data say
(`wna_jax.posterior`); nothing but the map itself is used.

  python -m experiments.fewer_samples --dataset=mnist
  python -m experiments.fewer_samples --dataset=cifar10 --epochs=1 --num_samples=400000

Writes to --out_dir: fewer_samples.png, fewer_samples_maps.png, metrics.json, config.json, log.jsonl and state/ (of the
map of very many samples, to go on from).
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments import launch, shared
from experiments.settings import LoopSettings, choice, setting
from wna_jax import figures, responses, reverse_correlate, statistics
from wna_jax.analysis import Analysis, analyse
from wna_jax.analysis.value import maps_of
from wna_jax.figures import Curve
from wna_jax.maps import ClassificationImages
from wna_jax.noise import Noise
from wna_jax.posterior import PosteriorMaps, posterior_maps
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import or_none
from wna_jax.runs.progress import in_parts, renamed
from wna_jax.statistics import Interval, seed_mean

_APART = 2**31
"""Between the seeds of the reference and of the few samples."""


class Settings(LoopSettings):
    """The settings of one run."""

    num_samples: int = setting(3_000_000, "Samples of the map that maps of few samples are compared with.", at_least=1)
    counts: tuple[int, ...] = choice(
        (1000, 4000, 16000, 64000), "Of how many samples maps are made, at most half of --num_samples.", at_least=20
    )
    num_seeds: int = setting(5, "How many times, with noise seeds from --seed on.", at_least=2)
    response: tuple[str, ...] = choice(
        ("probability", "decision"), "What is averaged: probability or probability:SHARPNESS, decision, confidence."
    )


class Trial(NamedTuple):
    """Correlations of some maps with the reference, [K], masked where there is none; seconds of the prior's search."""

    plain: np.ma.MaskedArray
    prior: np.ma.MaskedArray
    expected: np.ma.MaskedArray
    seconds: float


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Few samples to maps, plain and with the prior; beside them a map of many."""
    names = tuple(dict.fromkeys(settings.response))
    responses.check_names(names)  # before any training
    counts = sorted(set(settings.counts))
    if max(counts) * 2 > settings.num_samples:
        given = f"num_samples is {settings.num_samples:,} and counts go up to {max(counts):,}"
        raise InputError(f"{given}: maps are compared with one of at least twice as many samples, better of hundreds")
    dataset, stimulus, trained = shared.set_up(settings, report, _check_white)
    reference = analyse(
        trained.network,
        stimulus,
        settings.num_samples,
        dataset=dataset,
        outputs=trained.outputs,
        response=names,
        convergence=False,
        batch_size=settings.batch_size,
        seed=(settings.seed + _APART) % 2**32,
        state_dir=settings.folder / "state",
        identity={"data": dataset.fingerprint, "noise": settings.noise},
        report=renamed(report, "reference"),
    )
    respond = responses.of_network(trained.network, names, outputs=trained.outputs)
    seeds = range(settings.seed, settings.seed + settings.num_seeds)
    jobs = [(seed, count) for seed in seeds for count in counts]
    trials: dict[str, dict[int, list[Trial]]] = {name: {count: [] for count in counts} for name in names}
    examples: dict[tuple[str, int], tuple[ClassificationImages, PosteriorMaps]] = {}
    for (seed, count), tell in in_parts(report, jobs, "few samples"):
        of = {"seed": seed, "batch_size": settings.batch_size, "sampling": "independent", "report": tell}
        moments: Any = reverse_correlate(stimulus, respond, count, **of)
        for name in names:
            maps = maps_of(name, moments[name], stimulus)
            started = time.perf_counter()
            posterior = posterior_maps(maps)
            trials[name][count].append(_trial(maps, posterior, reference, name, time.perf_counter() - started))
            examples.setdefault((name, count), (maps, posterior))
    found = {name: [_summed_up(count, own) for count, own in by_count.items()] for name, by_count in trials.items()}
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "num_samples": settings.num_samples,
        "reliability_of_reference": {name: or_none(reference.reliability[name].reliability) for name in names},
        "seeds": list(seeds),
        "classes": list(dataset.class_names),
        "correlations": found,
    }
    title = f"{settings.model} on {dataset.title} (test accuracy {trained.test_accuracy:.2%})"
    draw = partial(_draw, found, examples, reference, dataset.class_names, title, settings)
    return launch.Result(metrics, list(_lines(found)), draw)


def _check_white(dataset: Any, stimulus: Noise) -> None:
    if not stimulus.white:
        raise InputError(
            f"{stimulus.name} noise has pixels that depend on each other: a smoothness prior needs white noise"
        )


def _trial(
    maps: ClassificationImages, posterior: PosteriorMaps, reference: Analysis, name: str, seconds: float
) -> Trial:
    known = reference.reliability[name].reliability
    plain, prior = (
        statistics.disattenuate(statistics.map_correlation(images, reference.maps[name].images), known)
        for images in (maps.images, posterior.images)
    )
    return Trial(plain, prior, posterior.expected_correlation, seconds)


def _summed_up(count: int, trials: Sequence[Trial]) -> dict[str, Any]:
    """Over classes with a map, then over seeds: means with 95% intervals, and the factor in samples."""
    of_seeds = {name: [float(getattr(own, name).mean()) for own in trials] for name in ("plain", "prior", "expected")}
    means = {name: seed_mean(values) for name, values in of_seeds.items()}
    changes = np.ma.stack([own.prior - own.plain for own in trials])
    odds = {name: mean.mean**2 / max(1 - mean.mean**2, 1e-9) for name, mean in means.items()}
    return {
        "samples": count,
        "maps": int(sum(own.plain.count() for own in trials)),
        **{name: {"mean": mean.mean, "interval_95": [mean.low, mean.high]} for name, mean in means.items()},
        "least_gain_of_a_map": float(changes.min()),
        "samples_gained": odds["prior"] / odds["plain"],
        "seconds_per_map": sum(own.seconds for own in trials) / max(1, sum(own.plain.count() for own in trials)),
    }


def _lines(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for name, rows in found.items():
        for row in rows:
            plain, prior, expected = (row[of]["mean"] for of in ("plain", "prior", "expected"))
            yield (
                f"{name:15s} {row['samples']:>7,} samples: correlation {plain:.3f} plain, {prior:.3f} with the prior "
                f"({expected:.3f} expected): worth {row['samples_gained']:.1f} times the samples"
            )


def _draw(
    found: dict[str, list[dict[str, Any]]],
    examples: dict[tuple[str, int], tuple[ClassificationImages, PosteriorMaps]],
    reference: Analysis,
    class_names: Sequence[str],
    title: str,
    settings: Settings,
) -> launch.Drawn:
    panels = {}
    for name, rows in found.items():
        x = [row["samples"] for row in rows]
        panels[f"{name} maps"] = {
            label: Curve(
                x,
                np.array([row[of]["mean"] for row in rows]),
                Interval(*(np.array([row[of]["interval_95"][end] for row in rows]) for end in (0, 1))),
            )
            for label, of in (("with a smoothness prior", "prior"), ("plain", "plain"))
        }
    about = f"Maps of few samples: {title}; mean of {len(class_names)} classes, {settings.num_seeds} noise seeds"
    label = f"correlation with a map of {settings.num_samples:,}"
    yield "fewer_samples.png", figures.curves(panels, "samples N", label, about, x_scale="log")
    name, counts = settings.response[0], sorted(set(settings.counts))
    shown = {f"{count:,} samples": examples[name, count] for count in counts}
    heading = f"{name} maps of few samples, and of {settings.num_samples:,}: {title}"
    yield (
        "fewer_samples_maps.png",
        figures.with_and_without_prior(shown, reference.maps[name], class_names, heading),
    )


if __name__ == "__main__":
    launch.main(run, Settings)
