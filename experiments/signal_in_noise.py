"""How does a network tell two signals in noise?

The network is shown t = g s + (1 - g) z: z is noise, s a test image of one of two classes (test images, because the
network was neither trained nor chosen on them), g the signal's weight. It chooses between the two classes by the
larger of their logits. For each g: the means n(answer, signal) of the stimulus t and of the noise z alone, and the
classification image [n00 + n01] - [n10 + n11] of both, as in signal detection. For a finer range of g: the psychometric
curve, how often the second class is answered to each signal, and the g at which this is one half.

  python -m experiments.signal_in_noise --dataset=mnist --classes=5,6

Writes to --out_dir: classification_images.png, psychometric.png, maps.npz, metrics.json, config.json and log.jsonl;
state/ lets an interrupted run go on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import common
from wna_jax import data, figures, interventions, noise, progress, responses, reverse_correlation, statistics
from wna_jax.errors import InputError, unknown_name

flags.DEFINE_list("classes", None, "the two classes to be told apart, by name (by default the first two)")
flags.DEFINE_list("gammas", "0,0.1,0.2,0.3", "weights of the signal at which classification images are made")

_CURVE = np.linspace(0, 1, 26)
_CURVE_SAMPLES = 4_000


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    classes: tuple[str, ...] | None
    gammas: tuple[str, ...]
    noise: str
    num_samples: int
    """For each signal and weight."""
    batch_size: int | None
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    gammas = _gammas(settings.gammas)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        pair = _pair(settings.classes, dataset)
        names = [dataset.class_names[k] for k in pair]
        signals = [_test_images(dataset, k) for k in pair]
        background = noise.create(settings.noise, dataset)
        network = common.trained_network(settings, dataset, report)

        def choose(images: jax.Array) -> jax.Array:
            return network.logits_function(images)[:, pair]

        respond = responses.of_classifier(choose, ["decision"])
        seeds = [(settings.seed + i) % 2**32 for i in range(2)]  # the two signals' errors must not depend on each other
        cells: list[list[tuple[reverse_correlation.Moments, noise.Noise]]] = []
        for gamma in gammas:
            stimuli = [interventions.embedded(background, images, gamma) for images in signals]
            moments = [
                reverse_correlation.reverse_correlate(
                    stimulus,
                    respond,
                    settings.num_samples,
                    seed=seed,
                    batch_size=settings.batch_size,
                    state_dir=out_dir / "state" / f"{gamma:g}-{i}",
                    identity={"network": network.fingerprint, "data": dataset.fingerprint, "classes": names},
                    report=report,
                )["decision"]
                for i, (stimulus, seed) in enumerate(zip(stimuli, seeds, strict=True))
            ]
            cells.append(list(zip(moments, stimuli, strict=True)))
        called_second = [
            _called_second(choose, background, images, seed, report)
            for images, seed in zip(signals, seeds, strict=True)
        ]

    contrasts = [statistics.signal_contrast(of_gamma) for of_gamma in cells]
    intervals = [statistics.wilson_interval(hits, _CURVE_SAMPLES) for hits in called_second]
    shares = [hits / _CURVE_SAMPLES for hits in called_second]
    thresholds = [
        statistics.threshold(_CURVE.tolist(), share, ends) for share, ends in zip(shares, intervals, strict=True)
    ]
    metrics = {
        "test_accuracy": network.metrics["test_accuracy"],
        "classes": names,
        "choice_accuracy": _accuracy(choose, signals),
        "samples_a_signal": settings.num_samples,
        "gammas": gammas,
        "counts": [  # [gamma][answer][signal]
            [[int(moments.count[answer]) for moments, _ in of_gamma] for answer in range(2)] for of_gamma in cells
        ],
        "significant_noise_pixels": [
            None if not np.ma.count(c.z) else int(_significant(c, len(gammas))[..., : background.shape[2]].sum())
            for c in contrasts
        ],
        "psychometric": {
            "gammas": _CURVE.tolist(),
            "samples": _CURVE_SAMPLES,
            f"share_called_{names[1]}": {name: share.tolist() for name, share in zip(names, shares, strict=True)},
            "interval": {name: [end.tolist() for end in ends] for name, ends in zip(names, intervals, strict=True)},
        },
        "threshold": {
            name: found and {"gamma": found.at, "low": found.low, "high": found.high}
            for name, found in zip(names, thresholds, strict=True)
        },
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    _write_maps(out_dir / "maps.npz", gammas, cells, contrasts)
    _draw(settings, out_dir, dataset, names, background, gammas, cells, contrasts, shares, intervals, metrics)
    _summarise(out_dir, names, gammas, metrics)


def _test_images(dataset: data.Dataset, k: int) -> np.ndarray:
    """The test images of class k on the [0, 1] scale.

    Raises:
        InputError: there are none.
    """
    images = dataset.test.images[dataset.test.labels == k]
    if not len(images):
        raise InputError(f"{dataset.name} has no test images of {dataset.class_names[k]}: choose another class")
    return images.astype(np.float32) / 255


def _gammas(texts: tuple[str, ...]) -> list[float]:
    try:
        gammas = [float(text) for text in texts]
    except ValueError:
        gammas = []
    if not gammas or not all(0 <= gamma <= 1 for gamma in gammas):
        raise InputError(f"gammas is {','.join(texts)!r}: expected numbers from 0 to 1, such as 0,0.1,0.2,0.3")
    return gammas


def _pair(names: tuple[str, ...] | None, dataset: data.Dataset) -> np.ndarray:
    names = dataset.class_names[:2] if names is None else names
    for name in names:
        if name not in dataset.class_names:
            raise unknown_name("class", name, dataset.class_names)
    if len(set(names)) != 2 or len(names) != 2:
        raise InputError(f"classes is {','.join(names)!r}: expected two class names, such as --classes=5,6")
    return np.array([dataset.class_names.index(name) for name in names])


def _called_second(
    choose: interventions.LogitsFunction,
    background: noise.Noise,
    signals: np.ndarray,
    seed: int,
    report: progress.Report,
) -> np.ndarray:
    """How many of `_CURVE_SAMPLES` stimuli are called the second class, at each weight of `_CURVE`."""
    drawn = np.asarray(reverse_correlation.draw_samples(background, _CURVE_SAMPLES, seed=seed))
    shown = signals[np.arange(_CURVE_SAMPLES) % len(signals)]
    return interventions.hits(
        choose,
        lambda inputs, gamma: interventions.blend(inputs[0], inputs[1], gamma),
        _CURVE.tolist(),
        (drawn, shown),
        np.ones(_CURVE_SAMPLES, np.int32),
        report,
    )


def _accuracy(choose: interventions.LogitsFunction, signals: list[np.ndarray]) -> float:
    hits = [
        interventions.hits(choose, lambda images, _: images, [0.0], images, np.full(len(images), k))[0]
        for k, images in enumerate(signals)
    ]
    return float(sum(hits) / sum(map(len, signals)))


def _significant(contrast: statistics.Contrast, num_maps: int) -> np.ndarray:
    return statistics.significant_pixels(contrast.z, num_maps=num_maps)[0]


def _write_maps(
    path: Path,
    gammas: list[float],
    cells: list[list[tuple[reverse_correlation.Moments, noise.Noise]]],
    contrasts: list[statistics.Contrast],
) -> None:
    """For each weight the sums and counts [signal, answer, ...] of noise and stimulus (channels), and its map."""
    arrays: dict[str, Any] = {}
    for gamma, of_gamma, contrast in zip(gammas, cells, contrasts, strict=True):
        arrays[f"sum_{gamma:g}"] = np.stack([moments.sum for moments, _ in of_gamma])
        arrays[f"count_{gamma:g}"] = np.stack([moments.count for moments, _ in of_gamma])
        if np.ma.count(contrast.difference):
            arrays[f"map_{gamma:g}"] = contrast.difference[0].filled()
            arrays[f"standard_error_{gamma:g}"] = contrast.standard_error[0].filled()
    common.write_arrays(path, **arrays)


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    names: list[str],
    background: noise.Noise,
    gammas: list[float],
    cells: list[list[tuple[reverse_correlation.Moments, noise.Noise]]],
    contrasts: list[statistics.Contrast],
    shares: list[np.ndarray],
    intervals: list[statistics.Interval],
    metrics: dict[str, Any],
) -> None:
    channels = background.shape[2]
    what = f"{settings.model} on {dataset.title} choosing between {names[0]} and {names[1]}"
    rows = {}
    for gamma, of_gamma, contrast in zip(gammas, cells, contrasts, strict=True):
        means, headings = [], []
        for answer in range(2):
            for signal, (moments, _) in enumerate(of_gamma):
                count = moments.count[answer]
                stimulus = (moments.sum[answer] / max(count, 1))[..., channels:]
                means.append(np.ma.masked_array(stimulus, np.full(stimulus.shape, count == 0)))
                headings.append(f"“{names[answer]}” to {names[signal]}\n{count:,}")
        of_noise, of_stimulus = contrast.z[0, ..., :channels], contrast.z[0, ..., channels:]
        found = _significant(contrast, len(gammas))
        rows[f"γ = {gamma:g}"] = [
            *map(figures.Panel, means, headings),
            figures.Panel(of_stimulus, "of the stimulus", True),
            figures.Panel(of_noise, "of the noise alone", True, np.asarray(found[..., :channels].any(axis=-1))),
        ]
    common.save(
        figures.panels(
            rows,
            f"Signals in noise: {what}, {settings.num_samples:,} images of {settings.noise} noise a signal and γ",
            "Grey: mean stimulus of each answer and signal, and their number. Coloured: the classification image "
            f"[n00 + n01] − [n10 + n11] in standard errors; red: brightness there speaks for {names[0]}, blue: for "
            f"{names[1]}. Outlined: p < .05 over all rows. Empty: an answer never given to one of the signals.",
        ),
        out_dir / "classification_images.png",
    )
    curves = {
        f"signal {name}": figures.Curve(_CURVE.tolist(), share, interval)
        for name, share, interval in zip(names, shares, intervals, strict=True)
    }
    thresholds = [
        f"{name} at γ = {t['gamma']:.3f} [{t['low']:.3f}, {t['high']:.3f}]"
        for name, t in metrics["threshold"].items()
        if t
    ]
    heading = f"one half for signal {'; '.join(thresholds)}" if thresholds else "one half is never crossed"
    common.save(
        figures.curves(
            {heading: curves},
            "weight γ of the signal",
            f"share called {names[1]}",
            f"{what}: {_CURVE_SAMPLES:,} images of {settings.noise} noise a point, 95% intervals",
            level=0.5,
        ),
        out_dir / "psychometric.png",
    )


def _summarise(out_dir: Path, names: list[str], gammas: list[float], metrics: dict[str, Any]) -> None:
    print(f"test accuracy   {metrics['test_accuracy']:.2%}; of the choice {metrics['choice_accuracy']:.2%}")
    for gamma, counts, found in zip(gammas, metrics["counts"], metrics["significant_noise_pixels"], strict=True):
        of = "; ".join(
            f"“{names[answer]}” to {names[signal]} {counts[answer][signal]:,}" for answer in (0, 1) for signal in (0, 1)
        )
        pixels = "no map: an answer was never given" if found is None else f"{found} significant pixels"
        print(f"gamma {gamma:<9g} {of}; {pixels}")
    for name, threshold in metrics["threshold"].items():
        told = f"{threshold['gamma']:.3f} [{threshold['low']:.3f}, {threshold['high']:.3f}]" if threshold else "none"
        print(f"threshold of {name}  {told}")
    print(f"look at         {out_dir / 'classification_images.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
