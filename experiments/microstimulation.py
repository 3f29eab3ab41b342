"""What does the network see when the units of one layer are stimulated, or suppressed?

A current is injected into all units of a layer, in proportion to each unit's mean activation to training images of a
class, and the network is shown test images of that class in noise, t = g s + (1 - g) z. Told is the psychometric
curve, how often it answers the class against the signal's weight g, for every strength of the current, and the
threshold, the g at which it does in one half of the cases (arXiv 1912.12106; in monkeys Afraz, Kiani & Esteky 2006,
Nature 442:692).

  python -m experiments.microstimulation --dataset=mnist
  python -m experiments.microstimulation --dataset=mnist --unit=authors --noise=uniform
  python -m experiments.microstimulation --dataset=mnist:2,8 --model=pair_cnn --strengths=0,0.5,1,2,3

With --unit=mean the current is strength x mean activation: at -1 a unit loses what images of the class give it on
average. With --unit=authors it is what the authors' notebooks apply, which differs from layer to layer: strength x
mean / (largest mean of the layer), times .1 in conv1 and 1 in conv2, but strength x .01 x mean in fc1; ten times as
much for two classes.

Writes to --out_dir: psychometric.png, thresholds.png, stimuli.png, curves.npz, metrics.json, config.json, log.jsonl.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from wna_jax import data, figures, interventions, noise, reverse_correlation, statistics, units
from wna_jax.errors import InputError
from wna_jax.progress import Report

flags.DEFINE_list(
    "strengths",
    None,
    "of the current; below 0 it suppresses (by default eleven from -4 to 4; for --unit=authors 0 to -10)",
)
flags.DEFINE_enum("unit", "mean", ["mean", "authors"], "what a strength of 1 is, see above")

_GAMMAS = np.linspace(0, 1, 21)
_STRENGTHS = {"mean": (0, -4, -2, -1, -0.5, -0.25, 0.25, 0.5, 1, 2, 4), "authors": range(0, -11, -1)}
_STRONGEST = 1e6


class Unit(NamedTuple):
    """The current of strength 1: factor x mean activation, which may be divided by the largest of the layer."""

    factor: float
    divided: bool

    def __str__(self) -> str:
        """As a figure says it."""
        factor = "" if self.factor == 1 else f"{self.factor:g} x "
        return f"strength x {factor}mean{' / largest mean' if self.divided else ''}"


_MEAN = Unit(1.0, False)
_AUTHORS = {"conv1": Unit(0.1, True), "conv2": Unit(1.0, True), "fc1": Unit(0.01, False)}
"""For ten classes."""


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    layers: tuple[str, ...] | None
    """By default all but the last."""
    strengths: tuple[str, ...] | None
    unit: str
    noise: str
    images_a_class: int
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    strengths = _strengths(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        network = common.trained_network(settings, dataset, report)
        layers = common.chosen_layers(settings.layers, network, lambda *of: units.layer_names(*of)[:-1])
        for layer in layers:
            _unit(settings.unit, layer, dataset)  # says at once what cannot be
        classes = np.unique(dataset.test.labels).tolist()
        background = noise.create(settings.noise, dataset)
        hits: dict[str, dict[int, np.ndarray]] = {}
        shown: dict[int, int] = {}
        for layer in layers:
            hits[layer], shown = _hits(settings, layer, classes, strengths, network, dataset, background, report)

    curves = {
        layer: {
            k: {
                strength: figures.Curve(
                    _GAMMAS.tolist(),
                    of_class[k][:, s] / shown[k],
                    statistics.wilson_interval(of_class[k][:, s], shown[k]),
                )
                for s, strength in enumerate(strengths)
            }
            for k in classes
        }
        for layer, of_class in hits.items()
    }
    thresholds = {
        layer: {k: [_threshold(curve) for curve in family.values()] for k, family in of_class.items()}
        for layer, of_class in curves.items()
    }
    metrics = {
        "test_accuracy": network.metrics["test_accuracy"],
        "images_a_point": {dataset.class_names[k]: shown[k] for k in classes},
        "unit": settings.unit,
        "strengths": strengths,
        "current": {layer: str(_unit(settings.unit, layer, dataset)) for layer in layers},
        "gammas": _GAMMAS.tolist(),
        "thresholds": {
            layer: {dataset.class_names[k]: [t and t._asdict() for t in found] for k, found in of_class.items()}
            for layer, of_class in thresholds.items()
        },
        "mean_shift": {layer: mean_shifts(of_class) for layer, of_class in thresholds.items()},
        "mean_change": {
            layer: [
                float(np.mean([np.abs(of_class[k][:, s] - of_class[k][:, 0]) / shown[k] for k in classes]))
                for s in range(len(strengths))
            ]
            for layer, of_class in hits.items()
        },
        "mean_share_without_noise": {
            layer: [float(np.mean([of_class[k][-1, s] / shown[k] for k in classes])) for s in range(len(strengths))]
            for layer, of_class in hits.items()
        },
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    arrays: dict[str, Any] = {f"hits_{layer}": np.stack(list(of.values())) for layer, of in hits.items()}
    common.write_arrays(
        out_dir / "curves.npz",
        classes=classes,
        strengths=strengths,
        gammas=_GAMMAS,
        images=list(shown.values()),
        **arrays,
    )
    _draw(settings, out_dir, dataset, background, curves, thresholds)
    _summarise(metrics, strengths)
    print(f"look at         {out_dir / 'psychometric.png'}")


def _hits(
    settings: Settings,
    layer: str,
    classes: list[int],
    strengths: list[float],
    network: common.Network,
    dataset: data.Dataset,
    background: noise.Noise,
    report: Report,
) -> tuple[dict[int, np.ndarray], dict[int, int]]:
    """For each class how often it is answered, [gammas, strengths], and the number of images."""
    activations = units.layer_activations(network.module, network.parameters, layer)
    train = dataset.train
    means = np.ma.filled(
        units.mean_activations(activations, train.images, train.labels, dataset.num_classes, report), 0
    )
    means = means.mean(axis=tuple(range(1, means.ndim - 1)))  # [classes, units]: over positions, where there are any
    stimulated = units.stimulated(network.module, network.parameters, layer)
    currents = np.array(strengths, np.float32)

    def answers(shown: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jax.vmap(lambda strength: stimulated(shown[0], strength * shown[1]))(currents)

    def mix(inputs: tuple[jax.Array, ...], gamma: jax.Array) -> tuple[jax.Array, jax.Array]:
        return interventions.blend(inputs[0], inputs[1], gamma), inputs[2]

    unit = _unit(settings.unit, layer, dataset)
    hits, counts = {}, {}
    for k in classes:
        images = dataset.test.images[dataset.test.labels == k][: settings.images_a_class] / np.float32(255)
        counts[k] = len(images)
        drawn = np.asarray(reverse_correlation.draw_samples(background, len(images), seed=settings.seed))
        largest = (means[k].max() or 1.0) if unit.divided else 1.0
        current = (unit.factor / largest * means[k]).astype(np.float32)
        pattern = np.broadcast_to(current, (len(images), len(current)))
        hits[k] = interventions.hits(
            answers, mix, _GAMMAS.tolist(), (drawn, images, pattern), np.full(len(images), k), report
        )
    return hits, counts


def _unit(unit: str, layer: str, dataset: data.Dataset) -> Unit:
    if unit == "mean":
        return _MEAN
    if layer not in _AUTHORS:
        raise InputError(f"unit is authors, who have no number for layer {layer}: choose from {', '.join(_AUTHORS)}")
    factor, divided = _AUTHORS[layer]
    return Unit(factor * (10 if dataset.num_classes == 2 else 1), divided)


def _threshold(curve: figures.Curve) -> statistics.Threshold | None:
    """None where images without noise are not called the class in one half, or noise alone is."""
    crosses = curve.y[0] < 0.5 <= curve.y[-1]
    return statistics.threshold(curve.x, curve.y, curve.interval) if crosses else None


def mean_shifts(thresholds: Mapping[int, list[statistics.Threshold | None]]) -> list[tuple[float, int] | None]:
    """By strength, the mean over classes of the threshold's shift from that without current, the first; and how many.

    Only the classes that have both can be compared; None where no class has. With fewer classes it is the mean of those
    that the current leaves a threshold, which are not any.
    """
    shifts: list[tuple[float, int] | None] = []
    for s in range(len(next(iter(thresholds.values())))):
        pairs = [(found[0], found[s]) for found in thresholds.values()]
        known = [after.at - before.at for before, after in pairs if before and after]
        shifts.append((float(np.mean(known)), len(known)) if known else None)
    return shifts


def _strengths(settings: Settings) -> list[float]:
    """0 first: everything is compared with it."""
    if settings.strengths is None:
        return [float(strength) for strength in _STRENGTHS[settings.unit]]
    try:
        numbers = [float(text) for text in settings.strengths]
    except ValueError:
        numbers = []
    if not numbers or not (np.abs(numbers) < _STRONGEST).all():
        raise InputError(
            f"strengths is {','.join(settings.strengths)!r}: expected numbers below {_STRONGEST:g}, such as 0,-1,-2"
        )
    return list(dict.fromkeys([0.0, *numbers]))


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    background: noise.Noise,
    curves: Mapping[str, Mapping[int, Mapping[float, figures.Curve]]],
    thresholds: Mapping[str, Mapping[int, list[statistics.Threshold | None]]],
) -> None:
    names, what = dataset.class_names, f"{settings.model} on {dataset.title}"
    of_layer = {layer: _unit(settings.unit, layer, dataset) for layer in curves}
    common.save(
        figures.families(
            {layer: {names[k]: family for k, family in of_class.items()} for layer, of_class in curves.items()},
            "weight γ",
            "called so",
            "strength of the current",
            f"Microstimulation of {what}: test images in {settings.noise} noise, by class, up to "
            f"{settings.images_a_class} images a point, with 95% intervals",
            "Current in each unit: " + "; ".join(f"{layer} {current}" for layer, current in of_layer.items()),
        ),
        out_dir / "psychometric.png",
    )
    strengths = list(next(iter(next(iter(curves.values())).values())))
    order = np.argsort(strengths)
    panels = {
        f"{layer}: {of_layer[layer]}": {
            names[k]: figures.Curve(
                [strengths[s] for s in order],
                _values(found, "at")[order],
                statistics.Interval(_values(found, "low")[order], _values(found, "high")[order]),
            )
            for k, found in of_class.items()
        }
        for layer, of_class in thresholds.items()
    }
    common.save(
        figures.curves(
            panels,
            "strength of the current",
            "threshold: γ of one half",
            f"Thresholds of {what} under microstimulation, by class; none where noise alone is called so in half of "
            "the cases or more, or the image without noise in fewer",
        ),
        out_dir / "thresholds.png",
    )
    drawn = np.asarray(reverse_correlation.draw_samples(background, 1, seed=settings.seed))[0]
    first = {
        names[k]: dataset.test.images[dataset.test.labels == k][0] / np.float32(255)
        for k in next(iter(curves.values()))
    }
    rows = {
        name: [
            figures.Panel(np.asarray(interventions.blend(drawn, image, jnp.float32(gamma))), f"γ = {gamma:.1f}")
            for gamma in _GAMMAS[::2]
        ]
        for name, image in first.items()
    }
    common.save(figures.panels(rows, f"One stimulus of each class in {settings.noise} noise"), out_dir / "stimuli.png")


def _values(found: list[statistics.Threshold | None], name: str) -> np.ndarray:
    return np.array([np.nan if t is None else getattr(t, name) for t in found])


def _summarise(metrics: dict[str, Any], strengths: list[float]) -> None:
    print(f"test accuracy   {metrics['test_accuracy']:.2%}")
    print(f"{'strength':24s}" + "".join(f"{strength:8g}" for strength in strengths))
    for layer, shifts in metrics["mean_shift"].items():
        told = "".join(f"{'-':>8s}" if shift is None else f"{shift[0]:+8.3f}" for shift in shifts)
        print(f"{layer + ': threshold shift':24s}{told}")
        counts = "".join(f"{shift[1] if shift else 0:8d}" for shift in shifts)
        print(f"{layer + ': of classes':24s}{counts}")
        changes = metrics["mean_change"][layer]
        print(f"{layer + ': mean change':24s}" + "".join(f"{change:8.3f}" for change in changes))
        shares = metrics["mean_share_without_noise"][layer]
        print(f"{layer + ': right at γ = 1':24s}" + "".join(f"{share:8.3f}" for share in shares))


if __name__ == "__main__":
    common.main(run, Settings)
