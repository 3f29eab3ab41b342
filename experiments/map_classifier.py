"""How well do maps of noise classify real images?

Uses the classification images of a trained network, in several noises, as templates: an image is called by the class
whose template matches it best. The network saw the images; the templates come from noise alone. For comparison there
are mean training images as templates, and chance.

  python -m experiments.map_classifier                              embedded digits, no download
  python -m experiments.map_classifier --dataset=mnist --noises=matched,uniform,gabor_pca

For each noise, response and variant of the map, the rule (is the mean image subtracted, how are templates scaled) is
chosen on the validation images; the test images are classified once, by all classifiers that are reported.

Writes to --out_dir: accuracies.png, confusion.png, templates.npz, metrics.json, config.json, log.jsonl and state/ (to
go on from).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import NetworkSettings, setting
from wna_jax import data, figures, maps, noise, responses, templates
from wna_jax.correlation import Moments, reverse_correlate
from wna_jax.networks import Network
from wna_jax.runs.files import as_file_name
from wna_jax.runs.progress import Report, silent

_REFERENCE = "class means"


@dataclass(frozen=True, kw_only=True)
class Settings(NetworkSettings):
    """The settings of one run."""

    noises: tuple[str, ...] = setting(
        ("matched", "uniform", "gabor_pca"),
        f"The noises whose maps classify: {', '.join(noise.NAMES)}.",
        names_folder=True,
    )
    response: tuple[str, ...] = setting(
        ("decision", "probability"),
        "What is averaged: decision, probability or probability:SHARPNESS, confident:THRESHOLD, confidence.",
        names_folder=True,
    )
    num_samples: int = setting(1_000_000, "How many samples to draw of each noise.", at_least=1)
    batch_size: int | None = setting(
        None, "Noise samples per network pass. By default what suits the device.", at_least=1
    )
    seed: int = setting(0, "Random seed of the noise.", at_least=0, at_most=2**32 - 1)


def run(settings: Settings, report: Report = silent) -> Result:
    """Noises through the network to maps, and all of them as classifiers of the test images."""
    dataset = shared.load_classes(settings, report)
    responses.check_names(settings.response)  # before any training
    trained = shared.trained_network(settings, dataset, report)
    squares = [np.mean((dataset.members(k) / 255) ** 2, axis=0) for k in range(dataset.num_classes)]
    kinds = {
        (_REFERENCE, "", "mean"): np.ma.masked_array(dataset.class_means),
        (_REFERENCE, "", "RMS"): np.ma.sqrt(squares),
    }
    counts: dict[str, dict[str, list[int]]] = {}
    for name in settings.noises:
        stimulus = noise.create(name, dataset, Path(settings.checkpoint_dir), settings.retrain, report)
        moments = _moments(settings, name, stimulus, dataset, trained.network, report)
        covariance = None if stimulus.white else noise.covariance(stimulus)  # maps of white noise are white already
        for response in settings.response:
            for variant, images in maps.variants(moments[response], stimulus, covariance).items():
                kinds[name, response, variant] = images
        counts[name] = {response: moments[response].count.tolist() for response in settings.response}
    trials = {kind: templates.try_on_test_images(images, dataset) for kind, images in kinds.items()}
    rows = [
        {"noise": name, "response": response, "variant": variant} | trial.as_json(dataset.class_names)
        for (name, response, variant), trial in trials.items()
    ]
    best = {
        name: max((row for row in rows if row["noise"] == name), key=lambda row: row["validation_accuracy"])
        for name in (_REFERENCE, *settings.noises)
    }
    metrics = {
        "network_test_accuracy": trained.test_accuracy,
        "num_samples": settings.num_samples,
        "test_images": len(dataset.test.labels),
        "chance": 1 / dataset.num_classes,
        "best_on_validation": {
            name: {key: value for key, value in row.items() if key != "confusion"} for name, row in best.items()
        },
        "classifiers": rows,
        "counts": counts,
    }
    summary, confusions = [f"network         {trained.test_accuracy:.2%}"], {}
    for name, row in best.items():
        kind, rule = f"{row['response']} {row['variant']}".strip(), row["rule"]
        test = trials[name, row["response"], row["variant"]].test
        confusions[f"{name}: {kind}, {test}"] = test.confusion
        scaled = f"{'centred, ' if rule['centred'] else ''}scale {rule['scale']}"
        summary.append(f"{name:15s} {test} by {kind} templates, {scaled}")
        if absent := ", ".join(row["classes_without_template"]):
            summary.append(f"{'':15s} never answered, for want of a template: {absent}")
    title = (
        f"Maps of noise as classifiers: {settings.model} on {dataset.title}, {settings.num_samples:,} samples of each "
        f"noise, {len(dataset.test.labels):,} test images"
    )
    shares = f"Templates from noise on {dataset.title}'s test images: share of each true class"
    return Result(
        metrics,
        [*summary, f"look at         {settings.folder / 'accuracies.png'}"],
        {
            "accuracies.png": lambda: figures.template_accuracies(rows, 1 / dataset.num_classes, title),
            "confusion.png": lambda: figures.confusions(confusions, dataset.class_names, shares),
        },
        {"templates.npz": {"-".join(kind): images.filled(np.nan) for kind, images in kinds.items()}},
    )


def _moments(
    settings: Settings, name: str, stimulus: noise.Noise, dataset: data.Dataset, network: Network, report: Report
) -> dict[str, Moments]:
    decided_by = {"noise": name, "data": dataset.fingerprint, "network": network.fingerprint}
    return reverse_correlate(
        stimulus,
        responses.of_classifier(network, settings.response),
        settings.num_samples,
        seed=settings.seed,
        batch_size=settings.batch_size,
        sampling="independent",
        state_dir=settings.folder / "state" / as_file_name(name),
        identity=decided_by | {"responses": list(settings.response)},
        report=report,
    )


if __name__ == "__main__":
    launch.main(run, Settings)
