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

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import LoopSettings, choice, setting
from wna_jax import figures, maps, statistics
from wna_jax.networks import units
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import in_parts
from wna_jax.studies import interventions, psychometrics

_CURVE = np.linspace(0, 1, 26).tolist()
_CURVE_SAMPLES = 4_000


class Settings(LoopSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    classes: tuple[str, ...] | None = choice(
        None, "The two classes to be told apart, by name. By default the first two."
    )
    gammas: tuple[float, ...] = choice(
        (0.0, 0.1, 0.2, 0.3), "Weights of the signal at which classification images are made.", at_least=0, at_most=1
    )
    num_samples: int = setting(1_000_000, "How many noise samples to draw per signal and weight.", at_least=1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Two signals in noise through the network to classification images and psychometric curves."""
    dataset = shared.load_classes(settings, report)
    names = list(dataset.class_names[:2] if settings.classes is None else settings.classes)
    pair = [dataset.label_of(name) for name in names]
    if len(pair) != 2 or pair[0] == pair[1]:
        raise InputError(f"classes is {','.join(names)!r}: expected two class names, such as --classes=5,6")
    signals = [dataset.test_members(k) for k in pair]
    for name, images in zip(names, signals, strict=True):
        if not len(images):
            raise InputError(f"{dataset.name} has no test images of {name}: choose another class")
    background = shared.create_noise(settings, dataset, report)
    trained = shared.trained_network(settings, dataset, report)
    choose, channels = units.only(trained.network, pair), background.shape[2]
    observed: dict[float, psychometrics.Discrimination] = {}
    for gamma, tell in in_parts(report, tuple(dict.fromkeys(settings.gammas)), "noise"):
        options = shared.loop_options(settings, dataset, trained.network, tell, f"{gamma:g}", classes=names)
        observed[gamma] = psychometrics.discriminate(choose, background, signals, gamma, **options)
    significant = {  # in the map of the noise, of a family of maps of noise and stimulus
        gamma: statistics.significant_pixels(at.contrast.z, num_maps=len(observed))[0, ..., :channels]
        for gamma, at in observed.items()
    }
    each = list(zip(names, signals, (settings.seed, (settings.seed + 1) % 2**32), strict=True))
    curves = {}
    for (name, images, seed), tell in in_parts(report, each, "answers"):
        how: dict[str, Any] = {"num_stimuli": _CURVE_SAMPLES, "seed": seed, "report": tell}
        curves[name] = psychometrics.psychometric_curve(choose, background, images, 1, _CURVE, **how)
    found = {name: curve.threshold() for name, curve in curves.items()}
    texts = {name: f"{of.at:.3f} [{of.low:.3f}, {of.high:.3f}]" if of else "none" for name, of in found.items()}
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
            int(significant[gamma].sum()) if np.ma.count(at.contrast.z) else None for gamma, at in observed.items()
        ],
        "psychometric": {
            "gammas": _CURVE,
            "samples": _CURVE_SAMPLES,
            f"share_called_{names[1]}": {name: curve.share.tolist() for name, curve in curves.items()},
            "interval": {name: [end.tolist() for end in curve.interval] for name, curve in curves.items()},
        },
        "threshold": {name: of and {"gamma": of.at, "low": of.low, "high": of.high} for name, of in found.items()},
    }
    arrays = {}  # sums and counts [signal, answer, ...] of noise and stimulus (channels), and the map
    for gamma, at in observed.items():
        arrays[f"sum_{gamma:g}"] = np.stack([moments.sum for moments in at.moments])
        arrays[f"count_{gamma:g}"] = np.stack([moments.count for moments in at.moments])
        if np.ma.count(at.contrast.difference):
            arrays[f"map_{gamma:g}"] = at.contrast.difference[0].filled()
            arrays[f"standard_error_{gamma:g}"] = at.contrast.standard_error[0].filled()

    def row(gamma: float, at: psychometrics.Discrimination) -> Iterator[figures.Panel]:
        for answer in range(2):
            for signal, moments in enumerate(at.moments):
                heading = f"“{names[answer]}” to {names[signal]}\n{moments.count[answer]:,}"
                yield figures.Panel(maps.mean_images(moments)[answer, ..., channels:], heading)
        drawn = (at.contrast.difference / at.contrast.standard_error)[0]
        yield figures.Panel(drawn[..., channels:], "of the stimulus", True)
        outlined = significant[gamma].max(axis=-1)
        yield figures.Panel(drawn[..., :channels], "of the noise alone", True, outlined)

    def draw() -> launch.Drawn:
        what = f"{shared.title_of(settings, dataset)} choosing between {names[0]} and {names[1]}"
        rows = {f"γ = {gamma:g}": list(row(gamma, at)) for gamma, at in observed.items()}
        title = f"{what}, {settings.num_samples:,} images of {settings.noise} noise per signal and γ"
        note = "Grey: mean stimulus of each answer and signal, and their number. Coloured: the classification image "
        note += f"[n00 + n01] − [n10 + n11] in standard errors; red: brightness there speaks for {names[0]}, blue: for "
        note += f"{names[1]}. Outlined: p < .05 over all rows. Empty: an answer never given to one of the signals."
        yield "classification_images.png", figures.panels(rows, f"Signals in noise: {title}", note)
        crossings = [f"{name} at γ = {texts[name]}" for name, threshold in found.items() if threshold]
        heading = f"one half for signal {'; '.join(crossings)}" if crossings else "one half is never crossed"
        panels = {heading: {f"signal {name}": figures.Curve.of_counts(*curve) for name, curve in curves.items()}}
        title = f"{what}: {_CURVE_SAMPLES:,} images of {settings.noise} noise per point, 95% intervals"
        axes = "weight γ of the signal", f"share called {names[1]}"
        yield "psychometric.png", figures.curves(panels, *axes, title, level=0.5)

    summary = [f"test accuracy   {trained.test_accuracy:.2%}; of the choice {metrics['choice_accuracy']:.2%}"]
    for gamma, counts, pixels in zip(observed, metrics["counts"], metrics["significant_noise_pixels"], strict=True):
        of = "; ".join(f"“{names[a]}” to {names[s]} {counts[a][s]:,}" for a in (0, 1) for s in (0, 1))
        what = "no map: an answer was never given" if pixels is None else f"{pixels} significant pixels"
        summary.append(f"gamma {gamma:<9g} {of}; {what}")
    summary += [f"threshold of {name}  {text}" for name, text in texts.items()]
    return launch.Result(metrics, summary, draw, {"maps.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
