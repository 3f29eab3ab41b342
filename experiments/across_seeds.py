"""Do networks that were trained from different seeds see the same in noise?

Loads or trains several networks that differ in their training seed alone, shows all of them noise in one pass of the
loop, each its own, and compares their classification images: how far they correlate once the noise in them is corrected
for, and their mean with its error across networks.

  python -m experiments.across_seeds --dataset=mnist --num_train_seeds=3

Writes to --out_dir: across_seeds_RESPONSE.png for each response, maps.npz, metrics.json, config.json and log.jsonl.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import common
from wna_jax import (
    data,
    ensembles,
    figures,
    maps,
    noise,
    progress,
    responses,
    reverse_correlation,
    statistics,
)
from wna_jax.errors import InputError


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    num_train_seeds: int
    noise: str
    response: tuple[str, ...]
    num_samples: int
    batch_size: int | None
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    count = settings.num_train_seeds
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        stimulus = noise.create(settings.noise, dataset)
        names = tuple(dict.fromkeys(settings.response))
        responses.check_names(names)
        if "logit" in names:
            raise InputError("logits are not averaged across seeds: choose decision, probability or confident")
        networks = {
            f"seed {seed}": common.trained_network(replace(settings, train_seed=seed), dataset, report)
            for seed in range(settings.train_seed, settings.train_seed + count)
        }
        watch = progress.Stopwatch(report)
        parts = reverse_correlation.reverse_correlate_in_parts(
            ensembles.side_by_side(stimulus, count),
            ensembles.of_networks([network.logits_function for network in networks.values()], names),
            settings.num_samples,
            seed=settings.seed,
            batch_size=settings.batch_size,
            sampling="independent",
            state_dir=out_dir / "state",
            identity={
                "noise": settings.noise,
                "data": dataset.fingerprint,
                "networks": [network.fingerprint for network in networks.values()],
            },
            report=watch,
        )
    if jax.process_index() > 0:
        return  # every process has the same moments; the first one writes

    first, second = (
        {name: ensembles.apart(half[name], count) for name in names} for half in (parts.first, parts.second)
    )
    images = {
        name: [maps.classification_images(a + b, stimulus) for a, b in zip(first[name], second[name], strict=True)]
        for name in names
    }
    reliability = {
        name: [
            statistics.split_half(a, b, stimulus).reliability for a, b in zip(first[name], second[name], strict=True)
        ]
        for name in names
    }
    agreed = {name: ensembles.agreement(images[name], reliability[name]) for name in names}
    metrics = {
        "num_samples_a_network": settings.num_samples,
        "train_seeds": list(range(settings.train_seed, settings.train_seed + count)),
        "classes": list(dataset.class_names),
        "test_accuracies": [network.metrics["test_accuracy"] for network in networks.values()],
        "samples_per_second": watch.rate if watch.done > settings.num_samples / 2 else None,  # else resumed
        "responses": {name: _metrics(images[name], reliability[name], agreed[name]) for name in names},
    }
    _write_maps(out_dir / "maps.npz", agreed, images)
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    _draw(settings, out_dir, dataset, networks, images, agreed)
    _summarise(out_dir, dataset, metrics)


def _metrics(
    images: list[maps.ClassificationImages], reliability: list[np.ma.MaskedArray], agreed: ensembles.Agreement
) -> dict[str, Any]:
    others = ~np.eye(len(images), dtype=bool)
    return {
        "counts": [own.count.tolist() for own in images],
        "mean_weights": [own.share.tolist() for own in images],
        "reliability": [_or_none(values) for values in reliability],
        "num_maps": agreed.num_maps.tolist(),
        "correlation": [[_or_none(row) for row in matrix] for matrix in agreed.correlation],
        "corrected_correlation": [[_or_none(row) for row in matrix] for matrix in agreed.corrected],
        "mean_corrected_correlation": _or_none(np.ma.stack([matrix[others].mean() for matrix in agreed.corrected])),
        "error_across_seeds": _or_none(np.ma.sqrt((agreed.standard_error**2).mean(axis=(1, 2, 3)))),
        "error_of_measurement": _or_none(
            np.ma.sqrt(np.ma.stack([(own.standard_error**2).mean(axis=(1, 2, 3)) for own in images]).mean(axis=0))
            / np.sqrt(np.maximum(agreed.num_maps, 1))
        ),
    }


def _or_none(values: np.ma.MaskedArray) -> list[float | None]:
    return [None if value is np.ma.masked else float(f"{value:.4g}") for value in values]


def _write_maps(
    path: Path, agreed: dict[str, ensembles.Agreement], images: dict[str, list[maps.ClassificationImages]]
) -> None:
    """The mean map and its error across seeds for every class that has them; every network's maps, "decision_map_3"."""
    arrays: dict[str, np.ndarray] = {}
    for name, (mean, error, *_) in agreed.items():
        for k in range(len(mean)):
            if mean[k].count():
                arrays |= {f"{name}_mean_map_{k}": mean[k].filled(), f"{name}_mean_error_{k}": error[k].filled()}
        for number, own in enumerate(images[name]):
            for k, image in enumerate(own.images):
                if image.count():
                    arrays[f"{name}_network_{number}_map_{k}"] = image.filled()
    common.write_arrays(path, **arrays)


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    networks: dict[str, common.Network],
    images: dict[str, list[maps.ClassificationImages]],
    agreed: dict[str, ensembles.Agreement],
) -> None:
    means = np.stack(
        [dataset.train.images[dataset.train.labels == k].mean(axis=0) / 255 for k in range(dataset.num_classes)]
    )
    accuracies = ", ".join(f"{network.metrics['test_accuracy']:.2%}" for network in networks.values())
    title = (
        f"{len(networks)} networks ({settings.model} on {dataset.title}, test accuracy {accuracies}) that differ in "
        f"their training seed alone: {settings.num_samples:,} images of {settings.noise} noise for each"
    )
    for name in images:
        by_network = dict(zip(networks, images[name], strict=True))
        figure = figures.across_networks(by_network, agreed[name], name, dataset.class_names, means, title)
        common.save(figure, out_dir / f"across_seeds_{name.replace(':', '_')}.png")


def _summarise(out_dir: Path, dataset: data.Dataset, metrics: dict[str, Any]) -> None:
    print(f"test accuracies {', '.join(f'{accuracy:.2%}' for accuracy in metrics['test_accuracies'])}")
    for name, found in metrics["responses"].items():
        told = [
            f"{class_name} {'unknown' if r is None else f'{r:.2f}'}"
            for class_name, r in zip(dataset.class_names, found["mean_corrected_correlation"], strict=True)
        ]
        print(f"{name + ' maps':15s} correlation across seeds, corrected: {', '.join(told)}")
    print(f"look at         {out_dir}")


if __name__ == "__main__":
    common.main(run, Settings)
