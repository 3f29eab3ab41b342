"""Do networks that are trained to be robust have templates that agree more with the classes?

Networks of several seeds are trained in each regime (wna_jax/networks/regimes.py) and shown noise. The agreement of a
classification image with its class is its correlation with the class's mean training image less that of all classes,
corrected for the noise in the map. Each regime is compared with the first one by a paired t test over training seeds,
Holm-adjusted over the regimes. Reports the accuracy on test images as they are, in noise, and after an FGSM step, too.
All networks answer to as many noise images; those of one seed to the same ones in every regime.

  python -m experiments.training_templates --dataset=mnist --epochs=1
  python -m experiments.training_templates --dataset=mnist --epochs=1 --regimes=plain,adversarial:0.1,adversarial:0.2

Writes to --out_dir: training_templates.png, maps_decision.png, maps_probability.png, maps.npz, metrics.json,
config.json, log.jsonl and state/ (to go on from).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.tree_util import Partial

from experiments import launch, shared
from experiments.settings import LoopSettings, choice, setting
from wna_jax import correlation, data, figures, maps, statistics
from wna_jax.networks import training
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import as_file_name, or_none
from wna_jax.runs.progress import in_parts
from wna_jax.studies import class_templates, ensembles, interventions

_RESPONSES = ("decision", "probability")


class Settings(LoopSettings):
    """The settings of one run."""

    regimes: tuple[str, ...] = choice(
        ("plain", "noise:0.3", "shift_rotation", "blur:1", "adversarial:0.1"),
        "Regimes of training, of which the first is what the others are compared with: plain, noise:DEVIATION, "
        "blur:PIXELS, adversarial:EPSILON, augmentations, or several joined by _.",
    )
    num_train_seeds: int = setting(5, "How many networks to train per regime, from --train_seed on.", at_least=2)
    num_samples: int = setting(100_000, "How many noise samples to draw for each network.", at_least=1)
    epsilon: float = choice(0.1, "Size of the FGSM step on test images, in pixel intensity.", at_least=0, at_most=1)
    test_noise: float = choice(0.3, "Deviation of the noise in noisy test images.", at_least=0, at_most=1)
    shown_classes: int = setting(4, "How many classes' maps stand in the first figure.", at_least=1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Networks of every regime and seed to their maps, how these agree with the classes, and their accuracies."""
    regimes, count = tuple(dict.fromkeys(settings.regimes)), settings.num_train_seeds
    if len(regimes) < 2:
        raise InputError(f"regimes is {', '.join(regimes)}: give two or more to compare, such as plain,noise:0.3")
    augmentations = {
        regime: training.in_regime(regime, settings.dataset) for regime in regimes
    }  # or it says what is wrong
    dataset = shared.load_classes(settings, report)
    stimulus = shared.create_noise(settings, dataset, report)
    if stimulus.shape != dataset.image_shape:
        raise InputError(f"noise {settings.noise!r} has maps of other pixels than the classes: give it without squares")
    differences = class_templates.class_differences(dataset)
    seeds, job = range(settings.train_seed, settings.train_seed + count), f"training {settings.model}"
    found: dict[str, dict[str, ensembles.Agreement]] = {name: {} for name in _RESPONSES}
    accuracies: dict[str, dict[str, list[float]]] = {}
    noisy = _noisy(dataset, settings)
    for regime, told in in_parts(report, regimes, job, "noise", "answers"):
        trained = [
            shared.trained_network(replace(settings, train_seed=seed), dataset, tell, augmentations[regime])
            for seed, tell in in_parts(told, seeds, job)
        ]
        networks = [each.network for each in trained]
        part, identity = as_file_name(regime), {"networks": [network.fingerprint for network in networks]}
        options = shared.loop_options(settings, dataset, None, told, part, **identity)
        noises, together = ensembles.side_by_side(stimulus, count), ensembles.of_networks(networks, _RESPONSES)
        parts = correlation.reverse_correlate_in_parts(noises, together, sampling="independent", **options)
        for name, by_regime in found.items():
            halves = parts.first[name], parts.second[name]
            by_regime[regime] = ensembles.agreement_of_halves(*halves, stimulus, count)
        accuracies[regime] = _accuracies(networks, dataset, noisy, settings.epsilon)
    corrected = {
        name: {regime: class_templates.with_classes(of, differences) for regime, of in by_regime.items()}
        for name, by_regime in found.items()
    }
    compared = {name: class_templates.compare(by_regime) for name, by_regime in corrected.items()}
    columns = _columns(compared, accuracies, settings)
    metrics: dict[str, Any] = {
        "num_samples_a_network": settings.num_samples,
        "train_seeds": list(seeds),
        "epochs": shared.epochs_for(settings, dataset),
        "num_test_images": len(dataset.test.labels),
        "classes": list(dataset.class_names),
        "accuracies": accuracies,
        "responses": {
            name: {
                "agreement_by_class": {regime: or_none(of) for regime, of in corrected[name].items()},
                "reliability": {regime: or_none(of.reliability) for regime, of in found[name].items()},
                "comparison": _metrics(compared[name]),
            }
            for name in _RESPONSES
        },
    }
    arrays: dict[str, np.ndarray] = maps.named("class_difference", np.ma.masked_array(differences))
    for name, by_regime in found.items():
        for regime, of in by_regime.items():
            arrays |= maps.named(f"{name}_{as_file_name(regime)}_mean_map", of.mean)

    def draw() -> launch.Drawn:
        what = f"{count} networks per regime ({shared.title_of(settings, dataset)}, epochs: {metrics['epochs']})"
        how = f"{settings.num_samples:,} images of {settings.noise} noise for each"
        title = f"Agreement of maps with the classes, by the regime of training: {what}, {how}"
        shown = slice(min(settings.shown_classes, dataset.num_classes))
        rows = {"class mean −\ngrand mean": np.ma.masked_array(differences[shown])}
        rows |= {regime: of.mean[shown] for regime, of in found["probability"].items()}
        note = (
            "Maps: probability maps, mean over seeds, each on its own scale. Agreement: correlation of a map with the "
            "class's mean training image less that of all classes, corrected for the noise in the map, mean over the "
            "classes of which all networks have a reliable map (decisions call some classes too rarely); beside "
            f"it p of the difference from {regimes[0]} (paired t test over seeds, Holm-adjusted)."
        )
        said = {label: {name: f"{mean.mean:.3f}" for name, mean in of.items()} for label, of in columns.items()}
        said |= {_label(name, of): _beside(of) for name, of in compared.items() if of}
        yield "training_templates.png", figures.regimes(rows, dataset.class_names[shown], columns, said, title, note)
        for name, by_regime in found.items():
            panels = {"class mean −\ngrand mean": _panels(differences, dataset.class_names)}
            for regime, of in by_regime.items():
                r = corrected[name][regime].mean(axis=0)
                texts = ["r unknown" if each is np.ma.masked else f"r {each:.2f}" for each in r]
                panels[regime] = _panels(of.mean / of.error_across_networks[:, None, None, None], texts)
            title = f"Mean {name} maps of {what}, {how}"
            note = (
                "Maps: mean over seeds, in standard errors across them, root mean square over the map; empty where "
                "fewer than two networks have a map. r: correlation of the networks' maps with the first row, "
                f"corrected for noise; unknown where no network's map has a reliability of {class_templates.LEAST:g}."
            )
            units = {next(iter(panels)): "pixel intensity"}
            yield f"maps_{name}.png", figures.panels(panels, title, note, units)

    return launch.Result(metrics, _summary(columns, compared, regimes[0]), draw, {"maps.npz": arrays})


def _noisy(dataset: data.Dataset, settings: Settings) -> np.ndarray:
    """The test images plus independent noise, clipped to [0, 1]: the same for all networks."""
    z = np.random.default_rng(settings.seed).standard_normal(dataset.test_images.shape, np.float32)
    return np.clip(dataset.test_images + np.float32(settings.test_noise) * z, 0, 1)


def _accuracies(networks: list, dataset: data.Dataset, noisy: np.ndarray, epsilon: float) -> dict[str, list[float]]:
    """The accuracy of each network on test images as they are, in noise, and after an FGSM step."""
    images, labels = dataset.test_images, dataset.test.labels
    of: dict[str, list[float]] = {"clean": [], "noise": [], "FGSM": []}
    for network in networks:
        attack = Partial(interventions.fgsm, network)
        of["clean"].append(interventions.accuracy(network, images, labels))
        of["noise"].append(interventions.accuracy(network, noisy, labels))
        hits = interventions.hits(network, attack, [epsilon], (images, labels), labels)
        of["FGSM"].append(float(hits[0] / len(labels)))
    return of


def _panels(images: np.ndarray, headings: Sequence[str]) -> list[figures.Panel]:
    return [figures.Panel(image, heading, is_map=True) for image, heading in zip(images, headings, strict=True)]


def _label(response: str, found: class_templates.Comparison) -> str:
    return f"agreement of {response}\nmaps, {found.classes.sum()} of {len(found.classes)} classes"


def _columns(
    compared: dict[str, class_templates.Comparison | None], accuracies: dict[str, dict[str, list[float]]], settings: Any
) -> dict[str, dict[str, statistics.SeedMean]]:
    """What was measured, by measure and regime."""
    columns = {
        _label(name, found): {regime: statistics.seed_mean(of.tolist()) for regime, of in found.values.items()}
        for name, found in compared.items()
        if found
    }
    labels = {
        "clean": "accuracy",
        "noise": f"accuracy in\nnoise of {settings.test_noise:g}",
        "FGSM": f"accuracy after\nFGSM of {settings.epsilon:g}",
    }
    for measure, label in labels.items():
        columns[label] = {regime: statistics.seed_mean(of[measure]) for regime, of in accuracies.items()}
    return columns


def _beside(found: class_templates.Comparison) -> dict[str, str]:
    """Mean agreements with the adjusted p of their difference from the first regime."""
    texts = {regime: f"{of.mean():.2f}" for regime, of in found.values.items()}
    return {
        regime: text + (f", p {found.adjusted[regime]:.2g}" if regime in found.adjusted else "")
        for regime, text in texts.items()
    }


def _metrics(found: class_templates.Comparison | None) -> dict[str, Any] | None:
    return found and {
        "classes_that_count": found.classes.tolist(),
        "agreement": {regime: of.tolist() for regime, of in found.values.items()},
        "difference": {regime: of._asdict() for regime, of in found.differences.items()},
        "adjusted_p": found.adjusted,
    }


def _summary(
    columns: dict[str, dict[str, statistics.SeedMean]],
    compared: dict[str, class_templates.Comparison | None],
    first: str,
) -> list[str]:
    """A table of the means, and the differences with their tests."""
    heads = [label.replace("\n", " ") for label in columns]
    lines = [f"means over seeds: {', '.join(heads)}"]
    for regime in next(iter(columns.values())):
        lines.append(f"{regime:18s}" + "".join(f"{of[regime].mean:9.3f}" for of in columns.values()))
    for name, found in compared.items():
        if found is None:
            lines.append(f"{name} maps: no class has a reliable map in every network: add samples")
            continue
        lines.append(
            f"{name} maps, {found.classes.sum()} classes: agreement less that of {first}, 95% interval, p (Holm)"
        )
        for regime, of in found.differences.items():
            interval = f"({of.low:+.3f} to {of.high:+.3f})"
            lines.append(f"{regime:18s}{of.mean:+9.3f} {interval} p {found.adjusted[regime]:.2g}")
    return lines


if __name__ == "__main__":
    launch.main(run, Settings)
