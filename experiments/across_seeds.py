"""Do networks that were trained from different seeds see the same in noise?

Loads or trains several networks that differ only in their training seed, shows each of them its own noise in one pass
of the loop, and compares their classification images: their correlation, corrected for the noise in them, and their
mean with its error across networks.

  python -m experiments.across_seeds --dataset=mnist --num_train_seeds=3

Writes to --out_dir: across_seeds_RESPONSE.png for each response, maps.npz, metrics.json, config.json, log.jsonl and
state/ (to go on from).
"""

from dataclasses import replace
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import LoopSettings, choice, setting
from wna_jax import correlation, figures, maps, responses
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import or_none
from wna_jax.runs.progress import Stopwatch, in_parts
from wna_jax.studies import ensembles


class Settings(LoopSettings):
    """The settings of one run."""

    num_train_seeds: int = setting(3, "How many networks to train, with seeds from --train_seed on.", at_least=2)
    response: tuple[str, ...] = choice(
        ("decision", "probability"),
        "What is averaged: decision, probability or probability:SHARPNESS, confident:THRESHOLD, confidence.",
    )


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Noise through all networks to their maps, and how far these agree."""
    dataset = shared.load_classes(settings, report)
    names = tuple(dict.fromkeys(settings.response))
    responses.check_names(names)  # before any training
    if "logit" in names:
        raise InputError("logits are not averaged across seeds: choose decision, probability or confident")
    stimulus, count = shared.create_noise(settings, dataset, report), settings.num_train_seeds
    seeds = range(settings.train_seed, settings.train_seed + count)
    each = in_parts(report, seeds, f"training {settings.model}")
    trained = [shared.trained_network(replace(settings, train_seed=seed), dataset, tell) for seed, tell in each]
    networks, watch = [each.network for each in trained], Stopwatch(report)
    fingerprints = [network.fingerprint for network in networks]
    options = shared.loop_options(settings, dataset, None, watch, networks=fingerprints, responses=list(names))
    noises, together = ensembles.side_by_side(stimulus, count), ensembles.of_networks(networks, names)
    parts = correlation.reverse_correlate_in_parts(noises, together, sampling="independent", **options)
    halves = {name: (parts.first[name], parts.second[name]) for name in names}
    agreed = {name: ensembles.agreement_of_halves(*halves[name], stimulus, count) for name in names}
    metrics = {
        "num_samples_a_network": settings.num_samples,
        "train_seeds": list(seeds),
        "classes": list(dataset.class_names),
        "test_accuracies": [each.test_accuracy for each in trained],
        "samples_per_second": watch.rate if watch.done > settings.num_samples / 2 else None,  # else resumed
        "responses": {name: _metrics(found) for name, found in agreed.items()},
    }
    accuracies = ", ".join(f"{each.test_accuracy:.2%}" for each in trained)
    arrays: dict[str, np.ndarray] = {}
    summary = [f"test accuracies {accuracies}"]
    for name, found in agreed.items():
        arrays |= maps.named(f"{name}_mean_map", found.mean) | maps.named(f"{name}_mean_error", found.standard_error)
        for number, own in enumerate(found.maps):
            arrays |= maps.named(f"{name}_network_{number}_map", own.images)
        pairs = zip(dataset.class_names, found.mean_corrected, strict=True)
        text = ", ".join(f"{class_name} {'unknown' if r is np.ma.masked else f'{r:.2f}'}" for class_name, r in pairs)
        summary.append(f"{name + ' maps':15s} correlation across seeds, corrected: {text}")

    def draw() -> launch.Drawn:
        title = f"{count} networks ({shared.title_of(settings, dataset)}, test accuracy {accuracies}) that differ "
        title += f"only in their training seed: {settings.num_samples:,} images of {settings.noise} noise for each"
        for name, found in agreed.items():
            figure = figures.across_networks(found, name, seeds, dataset.class_names, dataset.class_means, title)
            yield f"across_seeds_{name.replace(':', '_')}.png", figure

    return launch.Result(metrics, summary, draw, {"maps.npz": arrays})


def _metrics(agreed: ensembles.Agreement) -> dict[str, Any]:
    return {
        "counts": [own.count.tolist() for own in agreed.maps],
        "mean_weights": [own.share.tolist() for own in agreed.maps],
        "reliability": or_none(agreed.reliability),
        "num_maps": agreed.num_maps.tolist(),
        "correlation": or_none(agreed.correlation),
        "corrected_correlation": or_none(agreed.corrected),
        "mean_corrected_correlation": or_none(agreed.mean_corrected),
        "error_across_seeds": or_none(agreed.error_across_networks),
        "error_of_measurement": or_none(agreed.error_of_measurement),
    }


if __name__ == "__main__":
    launch.main(run, Settings)
