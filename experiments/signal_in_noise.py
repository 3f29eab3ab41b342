"""How does a network tell two signals in noise?

The network is shown t = g s + (1 - g) z, with noise z, a test image s of one of two classes (the network was neither
trained nor chosen on test images), and the signal's weight g. It chooses between the two classes by the larger of their
logits. For each g: the means n(answer, signal) of the stimulus t and of the noise z alone, and the classification image
[n00 + n01] - [n10 + n11] of both, as in signal detection. For a finer range of g: the psychometric curve, which is how
often the second class is answered to each signal, and the threshold, the g at which this is one half.

  python -m experiments.signal_in_noise --dataset=mnist --classes=5,6

Writes to --out_dir: classification_images.png, psychometric.png, maps.npz, metrics.json, config.json, log.jsonl and
state/ (to go on from).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import LoopSettings, setting
from wna_jax import data, figures, maps, noise, statistics
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, silent
from wna_jax.studies import interventions, psychometrics
from wna_jax.studies.psychometrics import Discrimination, PsychometricCurve

_CURVE = np.linspace(0, 1, 26).tolist()
_CURVE_SAMPLES = 4_000


@dataclass(frozen=True, kw_only=True)
class Settings(LoopSettings):
    """The settings of one run."""

    classes: tuple[str, ...] | None = setting(
        None, "The two classes to be told apart, by name. By default the first two.", names_folder=True
    )
    gammas: tuple[float, ...] = setting(
        (0.0, 0.1, 0.2, 0.3),
        "Weights of the signal at which classification images are made.",
        at_least=0,
        at_most=1,
        names_folder=True,
    )
    num_samples: int = setting(1_000_000, "How many noise samples to draw per signal and weight.", at_least=1)


def run(settings: Settings, report: Report = silent) -> Result:
    """Two signals in noise through the network to classification images and psychometric curves."""
    dataset = shared.load_classes(settings, report)
    pair = _pair(settings.classes, dataset)
    names = [dataset.class_names[k] for k in pair]
    signals = [dataset.test_members(k) for k in pair]
    for name, images in zip(names, signals, strict=True):
        if not len(images):
            raise InputError(f"{dataset.name} has no test images of {name}: choose another class")
    background = shared.create_noise(settings, dataset, report)
    trained = shared.trained_network(settings, dataset, report)
    choose = psychometrics.choice(trained.network, pair)
    observed = {
        gamma: psychometrics.discriminate(
            choose,
            background,
            signals,
            gamma,
            settings.num_samples,
            seed=settings.seed,
            batch_size=settings.batch_size,
            state_dir=settings.folder / "state" / f"{gamma:g}",
            identity=shared.identity(settings, dataset, trained.network, classes=names),
            report=report,
        )
        for gamma in dict.fromkeys(settings.gammas)
    }
    seeds = settings.seed, (settings.seed + 1) % 2**32
    curves = {
        name: psychometrics.psychometric_curve(
            choose, background, images, 1, _CURVE, num_stimuli=_CURVE_SAMPLES, seed=seed, report=report
        )
        for name, images, seed in zip(names, signals, seeds, strict=True)
    }
    labels = np.repeat([0, 1], [len(images) for images in signals])
    metrics: dict[str, Any] = {
        "test_accuracy": trained.test_accuracy,
        "classes": names,
        "choice_accuracy": interventions.accuracy(choose, np.concatenate(signals), labels),
        "samples_a_signal": settings.num_samples,
        "gammas": list(observed),
        "counts": [  # [gamma][answer][signal]
            np.stack([moments.count for moments in at.moments], axis=1).tolist() for at in observed.values()
        ],
        "significant_noise_pixels": [
            int(_significant(at, background, len(observed)).sum()) if np.ma.count(at.contrast.z) else None
            for at in observed.values()
        ],
        "psychometric": {
            "gammas": _CURVE,
            "samples": _CURVE_SAMPLES,
            f"share_called_{names[1]}": {name: curve.share.tolist() for name, curve in curves.items()},
            "interval": {name: [end.tolist() for end in curve.interval] for name, curve in curves.items()},
        },
        "threshold": {
            name: found and {"gamma": found.at, "low": found.low, "high": found.high}
            for name, found in ((name, curve.threshold()) for name, curve in curves.items())
        },
    }
    what = f"{settings.model} on {dataset.title} choosing between {names[0]} and {names[1]}"
    return Result(
        metrics,
        list(_summary(settings, metrics)),
        {
            "classification_images.png": lambda: _draw_images(settings, what, names, background, observed),
            "psychometric.png": lambda: _draw_curves(settings, what, curves, metrics["threshold"]),
        },
        {"maps.npz": _arrays(observed)},
    )


def _pair(names: Sequence[str] | None, dataset: data.Dataset) -> list[int]:
    names = dataset.class_names[:2] if names is None else names
    labels = [dataset.label_of(name) for name in names]
    if len(labels) != 2 or labels[0] == labels[1]:
        raise InputError(f"classes is {','.join(names)!r}: expected two class names, such as --classes=5,6")
    return labels


def _significant(at: Discrimination, background: noise.Noise, num_maps: int) -> np.ndarray:
    """The significant pixels in the map of the noise, of a family of maps of noise and stimulus."""
    return statistics.significant_pixels(at.contrast.z, num_maps=num_maps)[0, ..., : background.shape[2]]


def _arrays(observed: Mapping[float, Discrimination]) -> dict[str, np.ndarray]:
    """For each weight the sums and counts [signal, answer, ...] of noise and stimulus (channels), and its map."""
    arrays = {}
    for gamma, at in observed.items():
        arrays[f"sum_{gamma:g}"] = np.stack([moments.sum for moments in at.moments])
        arrays[f"count_{gamma:g}"] = np.stack([moments.count for moments in at.moments])
        if np.ma.count(at.contrast.difference):
            arrays[f"map_{gamma:g}"] = at.contrast.difference[0].filled()
            arrays[f"standard_error_{gamma:g}"] = at.contrast.standard_error[0].filled()
    return arrays


def _draw_images(
    settings: Settings,
    what: str,
    names: Sequence[str],
    background: noise.Noise,
    observed: Mapping[float, Discrimination],
) -> Figure:
    channels = background.shape[2]

    def row(at: Discrimination) -> Iterator[figures.Panel]:
        for answer in range(2):
            for signal, moments in enumerate(at.moments):
                heading = f"“{names[answer]}” to {names[signal]}\n{moments.count[answer]:,}"
                yield figures.Panel(maps.mean_images(moments)[answer, ..., channels:], heading)
        outlined = _significant(at, background, len(observed)).max(axis=-1)
        yield figures.Panel(at.contrast.z[0, ..., channels:], "of the stimulus", True)
        yield figures.Panel(at.contrast.z[0, ..., :channels], "of the noise alone", True, outlined)

    return figures.panels(
        {f"γ = {gamma:g}": list(row(at)) for gamma, at in observed.items()},
        f"Signals in noise: {what}, {settings.num_samples:,} images of {settings.noise} noise per signal and γ",
        "Grey: mean stimulus of each answer and signal, and their number. Coloured: the classification image "
        f"[n00 + n01] − [n10 + n11] in standard errors; red: brightness there speaks for {names[0]}, blue: for "
        f"{names[1]}. Outlined: p < .05 over all rows. Empty: an answer never given to one of the signals.",
    )


def _draw_curves(
    settings: Settings, what: str, curves: Mapping[str, PsychometricCurve], thresholds: Mapping[str, Any]
) -> Figure:
    crossings = [f"{name} at γ = {_as_text(found)}" for name, found in thresholds.items() if found]
    heading = f"one half for signal {'; '.join(crossings)}" if crossings else "one half is never crossed"
    return figures.curves(
        {heading: {f"signal {name}": figures.Curve.of_counts(*curve) for name, curve in curves.items()}},
        "weight γ of the signal",
        f"share called {list(curves)[1]}",
        f"{what}: {_CURVE_SAMPLES:,} images of {settings.noise} noise per point, 95% intervals",
        level=0.5,
    )


def _as_text(threshold: Mapping[str, float] | None) -> str:
    return "{gamma:.3f} [{low:.3f}, {high:.3f}]".format(**threshold) if threshold else "none"


def _summary(settings: Settings, metrics: Mapping[str, Any]) -> Iterator[str]:
    names = metrics["classes"]
    yield f"test accuracy   {metrics['test_accuracy']:.2%}; of the choice {metrics['choice_accuracy']:.2%}"
    rows = zip(metrics["gammas"], metrics["counts"], metrics["significant_noise_pixels"], strict=True)
    for gamma, counts, found in rows:
        of = "; ".join(f"“{names[a]}” to {names[s]} {counts[a][s]:,}" for a in (0, 1) for s in (0, 1))
        pixels = "no map: an answer was never given" if found is None else f"{found} significant pixels"
        yield f"gamma {gamma:<9g} {of}; {pixels}"
    for name, threshold in metrics["threshold"].items():
        yield f"threshold of {name}  {_as_text(threshold)}"
    yield f"look at         {settings.folder / 'classification_images.png'}"


if __name__ == "__main__":
    launch.main(run, Settings)
