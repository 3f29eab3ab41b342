"""Do two saved runs show the same maps?

Reads two finished runs of noise_maps, of two networks or of one, in the same noise of two seeds, and contrasts their
maps class by class: the difference in standard errors, all tests of it, and the correlation of the maps, corrected for
the noise in them.

  python -m experiments.compare runs/noise_maps/FIRST runs/noise_maps/SECOND

Writes to --out_dir: comparison.png, contrast.npz, metrics.json, config.json and log.jsonl.
"""

from typing import Any

import numpy as np

from experiments import launch
from experiments.settings import Settings as AnySettings
from experiments.settings import choice, setting
from wna_jax import analysis, figures, statistics
from wna_jax.maps import named
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import or_none

_MOST = 12  # classes whose correlation stands on the terminal
_LEAST = 0.2
"""The reliability below which a correlation that is corrected for noise says nothing."""


class Settings(AnySettings):
    """The settings of one comparison."""

    first: str | None = choice(None, "The folder of a run, or its maps.npz; it may stand without the flag's name.")
    second: str | None = choice(None, "The folder of another run, whose maps are taken off the first one's.")
    response: tuple[str, ...] | None = setting(None, "Whose maps to compare. By default all that both runs have.")
    permutations: int = setting(
        199, "Null maps that clusters are compared with; the smallest p is 1 in one more.", at_least=19
    )
    seed: int = setting(0, "Random seed of the null maps.", at_least=0, at_most=2**32 - 1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Two saved runs to the contrast of their maps, its tests and its figure."""
    if settings.first is None or settings.second is None:
        raise InputError("two runs are compared: give their folders, python -m experiments.compare FIRST SECOND")
    one, two = map(analysis.load, (settings.first, settings.second))
    names = settings.response or [name for name in one.first if name in two.first]
    if not names:
        raise InputError(f"the runs have no response in common: {', '.join(one.first)} and {', '.join(two.first)}")
    tests = {"permutations": settings.permutations, "seed": settings.seed}
    found = {name: one.contrast(two, name, **tests) for name in names}
    metrics: dict[str, Any] = {
        "classes": list(one.class_names),
        "num_samples": [next(iter(each.moments.values())).num_samples for each in (one, two)],
        "settings": [dict(each.settings) for each in (one, two)],
        "origins": [{name: str(each.origins[name]) for name in names} for each in (one, two)],
    }
    arrays, summary = dict[str, Any](), []
    for name, (contrast, findings) in found.items():
        mine, theirs = one.maps[name], two.maps[name]
        correlation = statistics.map_correlation(mine.images, theirs.images)
        reliability = [statistics.known_noise_reliability(maps) for maps in (mine, theirs)]
        told = [np.ma.masked_less(each, _LEAST) for each in reliability]
        metrics[name] = {
            "correlation": or_none(correlation),
            "corrected_correlation": or_none(statistics.disattenuate(correlation, *told)),
            "reliability": [or_none(each) for each in reliability],
            "significant_pixels": {
                test: None if inside is None else inside.sum(axis=(1, 2, 3)).tolist()
                for test, inside in findings.significant.items()
            },
            "info_val": None if findings.info_val is None else or_none(findings.info_val),
        }
        posteriors = [each.posterior(name) for each in (one, two)]
        with_prior = None
        if posteriors[0] and posteriors[1]:
            with_prior = or_none(statistics.map_correlation(*(own.images for own in posteriors if own)))
        metrics[name]["correlation_with_smoothness_prior"] = with_prior
        arrays |= named(f"{name}_difference", contrast.difference)
        arrays |= named(f"{name}_standard_error", contrast.standard_error) | named(f"{name}_z", contrast.z)
        arrays |= {f"{name}_significant_{test}": of for test, of in findings.significant.items() if of is not None}
        counts = {test: "not tested" if of is None else f"{of.sum():,}" for test, of in findings.significant.items()}
        tested = f"of {np.ma.count(contrast.z):,} pixels of all maps"
        summary.append(f"{name + ' maps':15s} significant {tested}: {', '.join(f'{t} {n}' for t, n in counts.items())}")
        known = zip(one.class_names, metrics[name]["corrected_correlation"], strict=True)
        alike = [f"{k} {'unknown' if r is None else f'{r:.2f}'}" for k, r in known]
        shown = ", ".join(alike[:_MOST]) + (", ..." if len(alike) > _MOST else "")
        summary.append(f"{'':15s} correlation without the noise: {shown}")

    def draw() -> launch.Drawn:
        title = f"What differs between the maps of {_described(one)} and {_described(two)}"
        maps = {name: (one.maps[name], two.maps[name]) for name in names}
        corrected = {name: metrics[name]["corrected_correlation"] for name in names}
        yield "comparison.png", figures.comparison(maps, found, corrected, one.class_names, title)

    return launch.Result(metrics, summary, draw, {"contrast.npz": arrays})


def _described(of: analysis.Analysis) -> str:
    known = {"model": "{}", "dataset": "on {}", "train_seed": "of training seed {}"}
    said = " ".join(text.format(of.settings[name]) for name, text in known.items() if name in of.settings)
    moments = next(iter(of.moments.values()))
    seeds = "" if moments.origin is None else f", {str(moments.origin).rpartition(' in ')[2]}"
    return f"{said or of.name} ({moments.num_samples:,} samples{seeds})"


if __name__ == "__main__":
    launch.main(run, Settings, positional=("first", "second"))
