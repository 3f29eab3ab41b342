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

from pathlib import Path

import numpy as np

from experiments import launch, shared
from experiments.settings import AugmentationSettings, choice, setting
from wna_jax import figures, maps, noise, responses, reverse_correlate, templates
from wna_jax.posterior import posterior_maps
from wna_jax.runs.files import as_file_name
from wna_jax.runs.progress import in_parts
from wna_jax.studies.local import over_squares

_REFERENCE = "class means"


class Settings(AugmentationSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    noises: tuple[str, ...] = choice(
        ("matched", "uniform", "gabor_pca"), f"The noises whose maps classify: {', '.join(noise.NAMES)}."
    )
    response: tuple[str, ...] = choice(
        ("decision", "probability"),
        "What is averaged: decision, probability or probability:SHARPNESS, confident:THRESHOLD, confidence.",
    )
    num_samples: int = setting(1_000_000, "How many samples to draw of each noise.", at_least=1)
    batch_size: int | None = setting(
        None, "Noise samples per network pass. By default what suits the device.", at_least=1
    )
    seed: int = setting(0, "Random seed of the noise.", at_least=0, at_most=2**32 - 1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Noises through the network to maps, and all of them as classifiers of the test images."""
    dataset = shared.load_classes(settings, report)
    responses.check_names(settings.response)  # before any training
    trained = shared.trained_network(settings, dataset, report)
    respond = responses.of_classifier(trained.network, settings.response)
    squares = [np.mean((dataset.members(k) / 255) ** 2, axis=0) for k in range(dataset.num_classes)]
    kinds = {(_REFERENCE, "", "mean"): np.ma.masked_array(dataset.class_means)}
    kinds[_REFERENCE, "", "RMS"] = np.ma.sqrt(squares)
    counts: dict[str, dict[str, list[int]]] = {}
    for name, tell in in_parts(report, settings.noises, "noise"):
        stimulus = noise.create(name, dataset, Path(settings.checkpoint_dir), settings.retrain, tell)
        identity = {"noise": name, "responses": list(settings.response)}
        options = shared.loop_options(settings, dataset, trained.network, tell, as_file_name(name), **identity)
        moments = reverse_correlate(stimulus, respond, sampling="independent", **options)
        covariance = None if stimulus.white else noise.covariance(stimulus)  # maps of white noise are white already
        for response in settings.response:
            variants = maps.variants(moments[response], stimulus, covariance)
            if stimulus.white:
                plain = maps.classification_images(moments[response], stimulus)
                variants["smoothness prior"] = posterior_maps(plain).images
            for variant, images in variants.items():
                factor = dataset.image_shape[0] // stimulus.shape[0]  # noise in squares has maps of squares
                kinds[name, response, variant] = over_squares(images, factor)
        counts[name] = {response: moments[response].count.tolist() for response in settings.response}
    trials = {kind: templates.try_on_test_images(images, dataset) for kind, images in kinds.items()}
    rows = [
        {"noise": name, "response": response, "variant": variant} | trial.as_json(dataset.class_names)
        for (name, response, variant), trial in trials.items()
    ]
    by_noise = {name: [row for row in rows if row["noise"] == name] for name in (_REFERENCE, *settings.noises)}
    best = {name: max(own, key=lambda row: row["validation_accuracy"]) for name, own in by_noise.items()}
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

    def draw() -> launch.Drawn:
        title = f"Maps of noise as classifiers: {shared.title_of(settings, dataset)}, {settings.num_samples:,} samples "
        title += f"of each noise, {len(dataset.test.labels):,} test images"
        yield "accuracies.png", figures.template_accuracies(rows, 1 / dataset.num_classes, title)
        title = f"Templates from noise on {dataset.title}'s test images: share of each true class"
        yield "confusion.png", figures.confusions(confusions, dataset.class_names, title)

    arrays = {"-".join(kind): images.filled(np.nan) for kind, images in kinds.items()}
    return launch.Result(metrics, summary, draw, {"templates.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
