"""By which spatial frequencies does a network recognise images, and how wide is its channel beside a person's?

Test images of reduced contrast are shown in noise of one octave of spatial frequencies at a time (critical-band
masking). The network's sensitivity to a band is 1 / threshold, the deviation of the noise at which accuracy is half-way
between chance and that without noise. A Gaussian of log frequency that explains the sensitivities to all bands is its
channel. That of people is one octave wide, for letters, gratings and objects (arXiv 2309.13190).

  python -m experiments.critical_bands --dataset=mnist
  python -m experiments.critical_bands --dataset=mnist --regimes=plain,noise:0.3,blur:1,adversarial:0.1

Networks of several seeds are trained in each regime (wna_jax/networks/regimes.py); all are shown the same images in the
same noise. Each regime is compared with the first one by the differences of networks that share a seed.

Writes to --out_dir: channels.png, accuracy.png, examples.png, channels.npz, metrics.json, config.json and log.jsonl.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import NetworkSettings, choice, setting
from wna_jax import figures, noise, statistics
from wna_jax.correlation import draw_samples
from wna_jax.networks import foreign, regimes, training
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import as_file_name
from wna_jax.runs.progress import in_parts
from wna_jax.studies import critical_bands
from wna_jax.studies.critical_bands import Bands, Channel, Masking

_DEVIATIONS = (0.03, 0.045, 0.06, 0.09, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
_SHOWN = 0.25  # deviation of the noise in the examples


class Settings(NetworkSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    regimes: tuple[str, ...] = choice(
        (regimes.PLAIN,),
        "Regimes of training, of which the first is what the others are compared with: plain, noise:DEVIATION, "
        "blur:PIXELS, adversarial:EPSILON, augmentations, or several joined by _.",
    )
    num_train_seeds: int = setting(3, "How many networks to train per regime, from --train_seed on.", at_least=1)
    split: str = choice(
        "test", "Which images are shown: test, or validation to choose settings by.", choices=("test", "validation")
    )
    num_images: int = setting(1_000, "How many of these images are shown, drawn by --seed.", at_least=2)
    contrast: float = choice(0.5, "Contrast of the images, about mid-grey: 1 leaves them.", at_least=0.01, at_most=1)
    deviations: tuple[float, ...] = setting(
        _DEVIATIONS, "Deviations of the noise in pixel intensity, rising. Nothing is clipped.", at_least=0
    )
    octaves: float = choice(1.0, "Width of each band of noise.", at_least=0.1, at_most=8)
    step: float = choice(0.5, "Octaves between the centres of bands, from the finest down.", at_least=0.1, at_most=4)
    resamples: int = setting(1_000, "How many resampled sets of images the intervals are made of.", at_least=20)
    seed: int = setting(0, "Random seed of the noise, and of which images are shown.", at_least=0, at_most=2**32 - 1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Networks of every regime and seed to their accuracies in bands of noise, and to their channels."""
    names, is_own = tuple(dict.fromkeys(settings.regimes)), foreign.is_named(settings.model)
    if is_own and names != (regimes.PLAIN,):
        raise InputError(f"regimes is {', '.join(names)}: a network of your own is not trained, leave --regimes out")
    augmentations = {name: training.in_regime(name, settings.dataset) for name in names}  # raises before any training
    seeds = [(settings.train_seed + i) % 2**32 for i in range(1 if is_own else settings.num_train_seeds)]
    dataset = shared.load_classes(settings, report)
    bands = Bands.of(dataset.image_shape, settings.step, settings.octaves)
    shown = getattr(dataset, settings.split)
    n = min(settings.num_images, len(shown.labels))
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(shown.labels))[:n])
    images = critical_bands.of_contrast(shown.images[chosen] / np.float32(255), settings.contrast)
    labels, classes = shown.labels[chosen], dataset.num_classes
    jobs = f"training {settings.model}", "answers"
    maskings: dict[str, list[Masking]] = {name: [] for name in names}
    channels: dict[str, list[Channel]] = {name: [] for name in names}
    accuracy: dict[str, list[float]] = {name: [] for name in names}
    for (name, seed), tell in in_parts(report, [(name, seed) for name in names for seed in seeds], *jobs):
        trained = shared.trained_network(replace(settings, train_seed=seed), dataset, tell, augmentations[name])
        of = trained.network, images, labels, classes, bands, settings.deviations
        masking = critical_bands.measure(*of, seed=settings.seed, report=tell)
        maskings[name].append(masking)
        channels[name].append(critical_bands.channel(masking, resamples=settings.resamples))
        accuracy[name].append(trained.test_accuracy)
    octaves = {name: _octaves(each) for name, each in channels.items()}
    means = {name: _over_seeds(of_seeds) for name, of_seeds in octaves.items()}
    gains = {name: _over_seeds(octaves[name] - octaves[names[0]]) for name in names[1:]}
    what = shared.title_of(settings, dataset)
    how = f"{n:,} {settings.split} images of contrast {settings.contrast:g}, {len(seeds)} training seeds"

    def draw() -> launch.Drawn:
        title = f"Spatial-frequency channels of {what} ({how})"
        yield "channels.png", figures.channels(channels, title, critical_bands.PERSON_OCTAVES)
        labels = [f"{centre:.3g}" for centre in bands.centres]
        panels = {}
        for name, each in maskings.items():
            rows = np.mean([masking.accuracy for masking in each], axis=0)
            clean = np.mean([masking.clean.mean() for masking in each])
            curves = {label: figures.Curve(settings.deviations, row) for label, row in zip(labels, rows, strict=True)}
            panels[f"{name}: {clean:.3f} without noise"] = curves
        title = f"Accuracy of {what} in noise of one band, named by its centre in cycles per image height ({how})"
        axes, chance = ("deviation of the noise, in pixel intensity", "accuracy, mean over seeds"), 1 / classes
        yield "accuracy.png", figures.curves(panels, *axes, f"{title}; dotted: chance", level=chance, x_scale="log")
        of_bands = [noise.band(bands.shape, centre, bands.octaves, 0.0, _SHOWN) for centre in bands.centres]
        drawn = [np.asarray(draw_samples(one, 1, seed=settings.seed)[0]) for one in of_bands]
        examples = {
            "noise": [figures.Panel(np.clip(0.5 + z, 0, 1), label) for z, label in zip(drawn, labels, strict=True)],
            "image": [figures.Panel(np.clip(images[0] + z, 0, 1)) for z in drawn],
        }
        title = (
            f"Noise of deviation {_SHOWN:g}, by the centre of its band in cycles per image height, and an image in it"
        )
        yield "examples.png", figures.panels(examples, title)

    summary = [f"{'':24s}clean   centre (cycles/image height)  bandwidth (octaves; a person: 1)"]
    for name, each in channels.items():
        for seed, masking, one in zip(seeds, maskings[name], each, strict=True):
            clean, label = masking.clean.mean(), f"{name}, seed {seed}"
            summary.append(f"{label:24s}{clean:.4f}  {_text(one.centre):30s}{_text(one.bandwidth)}")
    for name, of_measures in gains.items():
        for measure, gain in of_measures.items():
            if gain:
                label = f"{name} less {names[0]}: {measure}"
                summary.append(f"{label:42s}{gain['mean']:+.2f} octaves ({gain['low']:+.2f} to {gain['high']:+.2f})")
    metrics = {
        "regimes": list(names),
        "train_seeds": seeds,
        "num_images": n,
        "test_accuracy": accuracy,
        "centres": list(bands.centres),
        "person_octaves": critical_bands.PERSON_OCTAVES,
        "accuracy_without_noise": {name: [float(m.clean.mean()) for m in each] for name, each in maskings.items()},
        "channels": {name: [one.as_json() for one in each] for name, each in channels.items()},
        "mean_over_seeds": means,
        "differences_from_first": gains,
    }
    arrays: dict[str, Any] = {"centres": bands.centres, "deviations": settings.deviations}
    for name, each in channels.items():
        prefix = as_file_name(name)
        arrays[f"{prefix}_accuracy"] = np.stack([masking.accuracy for masking in maskings[name]])
        arrays[f"{prefix}_sensitivity"] = np.stack([one.sensitivity.filled(np.nan) for one in each])
    return launch.Result(metrics, summary, draw, {"channels.npz": arrays})


def _octaves(each: list[Channel]) -> np.ndarray:
    """log2 of the centre, and the bandwidth, of each seed: [seeds, 2]."""
    return np.array([(np.log2(one.centre.at), one.bandwidth.at) for one in each])


def _over_seeds(octaves: np.ndarray) -> dict[str, Any]:
    """Mean and t interval over seeds of both; None of fewer than two seeds, or where a network has no channel."""
    told = len(octaves) > 1 and bool(np.isfinite(octaves).all())
    return {
        measure: statistics.seed_mean(values.tolist())._asdict() if told else None
        for measure, values in zip(("log2 centre", "bandwidth"), octaves.T, strict=True)
    }


def _text(estimate: critical_bands.Estimate) -> str:
    if np.isnan(estimate.at):
        return "cannot be told"
    return f"{estimate.at:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


if __name__ == "__main__":
    launch.main(run, Settings)
